/**
 * The settings of a tty line: cooked as a driver starts with, or raw. Works on any descriptor of a tty, a PTY master
 * included (it then sets the slave's). Knows nothing of what the line is used for.
 */
import { callFailed, loadKoffi } from './libc.js';

/** `cooked`: echo and line editing, as a tty driver starts with. `raw`: bytes as they are, as cfmakeraw. */
export type TtyMode = 'cooked' | 'raw';

/** struct termios of glibc and musl: four u32 flags, c_line, 32 c_cc, padding, two speeds. */
export const TERMIOS_BYTES = 60;
const AT = { iflag: 0, oflag: 4, cflag: 8, lflag: 12, controlCharacters: 17, inputSpeed: 52, outputSpeed: 56 } as const;
const IFLAG = { ICRNL: 0o400, IXON: 0o2000 } as const;
const OFLAG = { OPOST: 0o1, ONLCR: 0o4 } as const;
const CFLAG = { B38400: 0o17, CS8: 0o60, CREAD: 0o200, HUPCL: 0o2000 } as const;
const LFLAG = {
  ISIG: 0o1,
  ICANON: 0o2,
  ECHO: 0o10,
  ECHOE: 0o20,
  ECHOK: 0o40,
  ECHOCTL: 0o1000,
  ECHOKE: 0o4000,
} as const;
const IEXTEN = 0o100000;
/** INIT_C_CC (linux:include/asm-generic/termios_conv.h): ^C ^\ DEL ^U ^D 0 1 0 ^Q ^S ^Z 0 ^R ^O ^W ^V 0. */
const CONTROL_CHARACTERS = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0];
const TCSANOW = 0;
const TCIFLUSH = 0;

type Libc = {
  tcgetattr(fd: number, termios: Buffer): number;
  tcsetattr(fd: number, when: number, termios: Buffer): number;
  tcflush(fd: number, queue: number): number;
};

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded === undefined) {
    const library = loadKoffi().load('libc.so.6');
    loaded = {
      tcgetattr: library.func('int tcgetattr(int fd, void *termios)') as never,
      tcsetattr: library.func('int tcsetattr(int fd, int when, const void *termios)') as never,
      tcflush: library.func('int tcflush(int fd, int queue)') as never,
    };
  }
  return loaded;
}

/** The kernel's 60 bytes. Throws ChannelError `system-call-failed` when `fd` is no tty, or a hung-up one. */
export function getTermios(fd: number): Buffer {
  const bytes = Buffer.alloc(TERMIOS_BYTES);
  if (libc().tcgetattr(fd, bytes) !== 0) throw callFailed(`tcgetattr of descriptor ${fd}`);
  return bytes;
}

/** Takes effect at once. Throws ChannelError `system-call-failed`. */
export function setTtyMode(fd: number, mode: TtyMode): void {
  if (libc().tcsetattr(fd, TCSANOW, termiosOf(mode)) !== 0) throw callFailed(`tcsetattr of descriptor ${fd}`);
}

/** `cooked` as soon as the line echoes or edits. */
export function ttyMode(fd: number): TtyMode {
  return (getTermios(fd).readUInt32LE(AT.lflag) & (LFLAG.ICANON | LFLAG.ECHO)) === 0 ? 'raw' : 'cooked';
}

/** Throws away what the line has received and nobody has read. */
export function discardInput(fd: number): void {
  if (libc().tcflush(fd, TCIFLUSH) !== 0) throw callFailed(`tcflush of descriptor ${fd}`);
}

/** At 38400 baud in both modes, as tty_std_termios (linux:drivers/tty/tty_io.c). */
function termiosOf(mode: TtyMode): Buffer {
  const bytes = Buffer.alloc(TERMIOS_BYTES);
  const cooked = mode === 'cooked';
  const { ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHOCTL, ECHOKE } = LFLAG;
  bytes.writeUInt32LE(cooked ? IFLAG.ICRNL | IFLAG.IXON : 0, AT.iflag);
  bytes.writeUInt32LE(cooked ? OFLAG.OPOST | OFLAG.ONLCR : 0, AT.oflag);
  bytes.writeUInt32LE(CFLAG.B38400 | CFLAG.CS8 | CFLAG.CREAD | CFLAG.HUPCL, AT.cflag);
  bytes.writeUInt32LE(cooked ? ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN : 0, AT.lflag);
  bytes.set(CONTROL_CHARACTERS, AT.controlCharacters);
  bytes.writeUInt32LE(CFLAG.B38400, AT.inputSpeed);
  bytes.writeUInt32LE(CFLAG.B38400, AT.outputSpeed);
  return bytes;
}
