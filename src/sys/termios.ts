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

/** Where the structure is as described above (linux:include/uapi/asm-generic/termbits.h). */
const GENERIC_TERMIOS: ReadonlySet<string> = new Set(['x64', 'ia32', 'arm64', 'arm', 'riscv64']);

/** Raw mode of a line whose speed and other settings stay as they are. */
export interface RawCalls {
  /** What stands in the way of some byte value; undefined if the line is raw. Throws ChannelError `system-call-failed`. */
  problem(fd: number): string | undefined;
  /** Takes effect at once: does not wait for output, as stty does. Throws ChannelError `system-call-failed`. */
  set(fd: number): void;
}

/** undefined where termios cannot be reached: without koffi, or on a machine where it looks different. */
export function rawCalls(): RawCalls | undefined {
  if (!GENERIC_TERMIOS.has(process.arch)) return undefined;
  try {
    libc();
  } catch {
    return undefined;
  }
  return { problem: (fd) => rawProblem(getTermios(fd)), set: setRaw };
}

/** IGNBRK BRKINT PARMRK INPCK ISTRIP INLCR IGNCR ICRNL IUCLC IXON IXOFF: each changes, swallows or adds bytes. */
const HARMFUL_IFLAG = 0o1 | 0o2 | 0o10 | 0o20 | 0o40 | 0o100 | 0o200 | 0o400 | 0o1000 | 0o2000 | 0o10000;
/** IGNPAR IXANY IMAXBEL: mean nothing then; `stty raw` clears them, too. */
const IDLE_IFLAG = 0o4 | 0o4000 | 0o20000;
const CSIZE = 0o60;
const PARENB = 0o400;
/** ISIG ICANON ECHO ECHONL TOSTOP IEXTEN. */
const HARMFUL_LFLAG = LFLAG.ISIG | LFLAG.ICANON | LFLAG.ECHO | 0o100 | 0o400 | IEXTEN;
const VTIME = 5;
const VMIN = 6;

function rawProblem(termios: Buffer): string | undefined {
  const wrong: string[] = [];
  const flag = (name: 'iflag' | 'oflag' | 'lflag', harmful: number): void => {
    const set = termios.readUInt32LE(AT[name]) & harmful;
    if (set !== 0) wrong.push(`${name} still has 0${set.toString(8)}`);
  };
  flag('iflag', HARMFUL_IFLAG);
  flag('oflag', OFLAG.OPOST);
  flag('lflag', HARMFUL_LFLAG);
  if ((termios.readUInt32LE(AT.cflag) & (CSIZE | PARENB)) !== CFLAG.CS8) wrong.push('cs8 without parity not set');
  if (termios[AT.controlCharacters + VMIN] !== 1 || termios[AT.controlCharacters + VTIME] !== 0) {
    wrong.push('min 1 time 0 not set');
  }
  return wrong.length === 0 ? undefined : wrong.join(', ');
}

function setRaw(fd: number): void {
  const termios = getTermios(fd);
  const change = (name: 'iflag' | 'oflag' | 'cflag' | 'lflag', clear: number, set = 0): void => {
    termios.writeUInt32LE(((termios.readUInt32LE(AT[name]) & ~clear) | set) >>> 0, AT[name]);
  };
  change('iflag', HARMFUL_IFLAG | IDLE_IFLAG);
  change('oflag', OFLAG.OPOST);
  change('cflag', CSIZE | PARENB, CFLAG.CS8);
  change('lflag', HARMFUL_LFLAG);
  termios[AT.controlCharacters + VMIN] = 1;
  termios[AT.controlCharacters + VTIME] = 0;
  if (libc().tcsetattr(fd, TCSANOW, termios) !== 0) throw callFailed(`tcsetattr of descriptor ${fd}`);
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
