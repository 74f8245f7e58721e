/**
 * What an admin asks for: one channel. Checked once at the edge; everything behind it may rely on it.
 */
import { ChannelError } from '../base/errors.js';
import type { ChannelName } from './name.js';

export type Connection = 'socket' | 'pty';
/** `native`: our daemon serves the ring. `qemu`: the QEMU of the domain does. */
export type Backend = 'native' | 'qemu';

export interface ChannelSpec {
  readonly name: ChannelName;
  readonly connection: Connection;
  /** Where the chardev appears in dom0; undefined: the default path of this channel (layout.ts, defaultPath). */
  readonly path?: string;
  /** undefined: the lowest free one in 1..7. */
  readonly deviceId?: number;
  readonly backend: Backend;
  /** Mode and owners of the host socket; undefined: 0660 and the daemon's own. */
  readonly mode?: number;
  readonly owner?: string;
  readonly group?: string;
  /** Most bytes kept for a slow or absent host client. */
  readonly limitBytes: number;
}

/** libxl's own value for a console (xen:tools/libs/light/libxl_console.c, LIBXL_XENCONSOLE_LIMIT). */
export const DEFAULT_LIMIT_BYTES = 1024 * 1024;
/** sun_path has 108 bytes, one of them for the final NUL. */
export const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Throws `path-too-long` or `path-illegal`. A path may be any absolute path that fits into sun_path and that libxl's
 * and QEMU's syntax can carry: no comma, no NUL, no newline.
 */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    throw new ChannelError(
      'path-too-long',
      `the socket path has ${bytes} bytes, but a Unix socket path can have at most ${MAX_SOCKET_PATH_BYTES}: ${path.slice(0, 60)}...; give a shorter one with --path`,
      { bytes, limit: MAX_SOCKET_PATH_BYTES },
    );
  }
  const why = !path.startsWith('/')
    ? 'it must be absolute'
    : path.endsWith('/')
      ? 'it must name a file'
      : // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is looked for
        /[\u0000-\u001f\u007f,]/.test(path)
        ? 'commas and control characters are not allowed'
        : undefined;
  if (why !== undefined)
    throw new ChannelError('path-illegal', `socket path '${path}' cannot be used: ${why}`, { path });
}
