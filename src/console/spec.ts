/**
 * What an admin asks for: one channel. Checked once at the edge; everything behind it may rely on it.
 */
import { ChannelError } from '../base/errors.js';
import { checkDeviceId } from './device-id.js';
import { type ChannelName, parseChannelName, printable } from './name.js';

export type Connection = 'socket' | 'pty';
/** `native`: our daemon serves the ring. `qemu`: the QEMU of the domain does. */
export type Backend = 'native' | 'qemu';

export type Overflow = 'drop-oldest' | 'drop-newest';

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
  /** What goes when that is full; undefined: the oldest bytes. */
  readonly overflow?: Overflow;
  /** Bytes for the guest do not wait until it has spoken or opened the channel. */
  readonly speakFirst?: boolean;
  /** The daemon is the client: it connects to the socket that somebody else serves at `path`. */
  readonly connect?: boolean;
  /** A file with everything that the guest says, beside the host end. */
  readonly log?: LogSpec;
}

export interface LogSpec {
  readonly path: string;
  /** At this size the file becomes `<path>.1`; undefined: 16 MiB. */
  readonly maxBytes?: number;
  /** How many older files are kept; undefined: 4. */
  readonly keep?: number;
  readonly timestamps?: boolean;
}

/** libxl's own value for a console (xen:tools/libs/light/libxl_console.c, LIBXL_XENCONSOLE_LIMIT). */
export const DEFAULT_LIMIT_BYTES = 1024 * 1024;
/** A client that was away for long should not cost dom0 more than this. */
export const MAX_LIMIT_BYTES = 1024 * 1024 * 1024;
/** One page: below it the bound would cut single bursts of a guest. */
export const MIN_LIMIT_BYTES = 4096;
/** sun_path has 108 bytes, one of them for the final NUL. */
export const MAX_SOCKET_PATH_BYTES = 107;
/** A page of log, to most of what one ever looks through. */
export const LOG_SIZE_BYTES = { min: 4096, max: 1024 * 1024 * 1024 } as const;
export const MAX_LOGS_KEPT = 100;
/** xenstore's own limit for a value is 4096 bytes, and PATH_MAX is no less. */
const MAX_LOG_PATH_BYTES = 1024;

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

/** A spec as people and programs give it; what is left out takes the default. */
export interface ChannelSpecInput {
  readonly name: string;
  readonly connection?: string | undefined;
  readonly path?: string | undefined;
  readonly deviceId?: number | undefined;
  readonly backend?: string | undefined;
  readonly mode?: number | undefined;
  readonly owner?: string | undefined;
  readonly group?: string | undefined;
  readonly limitBytes?: number | undefined;
  readonly overflow?: string | undefined;
  readonly speakFirst?: boolean | undefined;
  /** The path to connect to, instead of `path`. */
  readonly connect?: string | boolean | undefined;
  readonly log?: string | LogSpec | undefined;
  readonly logSize?: number | undefined;
  readonly logKeep?: number | undefined;
  readonly logTimestamps?: boolean | undefined;
}

/**
 * Checks everything that can be checked without looking at a host. Throws `name-illegal`, `path-too-long`,
 * `path-illegal`, `device-id-out-of-range`, `usage-invalid`.
 */
export function parseChannelSpec(input: ChannelSpecInput): ChannelSpec {
  const { deviceId, mode, owner, group, speakFirst, limitBytes = DEFAULT_LIMIT_BYTES } = input;
  const path = pathOf(input);
  const connect = input.connect !== undefined && input.connect !== false;
  const log = parseLogSpec(input);
  const connection = oneOf('connection', input.connection ?? 'socket', ['socket', 'pty'] as const);
  const backend = oneOf('backend', input.backend ?? 'native', ['native', 'qemu'] as const);
  const overflow =
    input.overflow === undefined
      ? undefined
      : oneOf('overflow', input.overflow, ['drop-oldest', 'drop-newest'] as const);
  const name = parseChannelName(input.name);
  if (path !== undefined) checkSocketPath(path);
  if (deviceId !== undefined) checkDeviceId(deviceId);
  checkRange('mode', mode, 0, 0o777, (value) => `0${value.toString(8)}`);
  checkRange('limit', limitBytes, MIN_LIMIT_BYTES, MAX_LIMIT_BYTES, String);
  checkAccount('owner', owner);
  checkAccount('group', group);
  if (backend === 'qemu') {
    refuseForQemu({ mode, owner, group, overflow, 'speak-first': speakFirst, connect: connect || undefined, log });
  }
  if (connect) refuseForConnect(connection, path, { mode, owner, group });
  return {
    name,
    connection,
    backend,
    limitBytes,
    ...(path === undefined ? {} : { path }),
    ...(deviceId === undefined ? {} : { deviceId }),
    ...(mode === undefined ? {} : { mode }),
    ...(owner === undefined ? {} : { owner }),
    ...(group === undefined ? {} : { group }),
    ...(overflow === undefined ? {} : { overflow }),
    ...(speakFirst === undefined ? {} : { speakFirst }),
    ...(connect ? { connect } : {}),
    ...(log === undefined ? {} : { log }),
  };
}

function pathOf({ path, connect }: ChannelSpecInput): string | undefined {
  if (typeof connect !== 'string') return path;
  if (path === undefined) return connect;
  throw new ChannelError('usage-invalid', 'a channel that connects has no path of its own: leave --path out', {});
}

/** Nothing appears in dom0 where the daemon is the client. */
function refuseForConnect(
  connection: Connection,
  path: string | undefined,
  made: Readonly<Record<string, unknown>>,
): void {
  const given = Object.keys(made).filter((key) => made[key] !== undefined);
  const why =
    connection !== 'socket'
      ? `it is a ${connection}`
      : path === undefined
        ? 'it has no path'
        : given.length > 0
          ? `${given.join(', ')} would have no effect`
          : undefined;
  if (why !== undefined) throw new ChannelError('usage-invalid', `the channel cannot connect to a server: ${why}`, {});
}

/** Throws `path-illegal`, `usage-invalid`. */
function parseLogSpec({ log, logSize, logKeep, logTimestamps }: ChannelSpecInput): LogSpec | undefined {
  if (log === undefined) {
    if (logSize === undefined && logKeep === undefined && logTimestamps === undefined) return undefined;
    throw new ChannelError('usage-invalid', 'without --log there is no log that could have a size or timestamps', {});
  }
  const {
    path,
    maxBytes = logSize,
    keep = logKeep,
    timestamps = logTimestamps,
  }: LogSpec = typeof log === 'string' ? { path: log } : log;
  checkLogPath(path);
  checkRange('log size', maxBytes, LOG_SIZE_BYTES.min, LOG_SIZE_BYTES.max, String);
  checkRange('log keep', keep, 0, MAX_LOGS_KEPT, String);
  return {
    path,
    ...(maxBytes === undefined ? {} : { maxBytes }),
    ...(keep === undefined ? {} : { keep }),
    ...(timestamps === true ? { timestamps } : {}),
  };
}

/** Throws `path-illegal`. */
export function checkLogPath(path: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is looked for
  const legal = path.startsWith('/') && !path.endsWith('/') && !/[\u0000-\u001f\u007f]/.test(path);
  if (legal && Buffer.byteLength(path) <= MAX_LOG_PATH_BYTES) return;
  throw new ChannelError('path-illegal', `log path ${printable(path)} is not an absolute path of a file`, {
    path: path.slice(0, 255),
  });
}

/** What only our own daemon can do. */
function refuseForQemu(options: Readonly<Record<string, unknown>>): void {
  const given = Object.keys(options).filter((key) => options[key] !== undefined);
  if (given.length === 0) return;
  throw new ChannelError('usage-invalid', `QEMU's channels know no ${given.join(', ')}: use the native backend`, {
    options: given,
  });
}

function oneOf<T extends string>(what: string, text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) {
    throw new ChannelError('usage-invalid', `${what} ${printable(text)} is not known: use ${choices.join(' or ')}`, {
      [what]: text.slice(0, 40),
    });
  }
  return found;
}

function checkRange(
  what: string,
  value: number | undefined,
  min: number,
  max: number,
  format: (value: number) => string,
): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
  throw new ChannelError('usage-invalid', `${what} ${format(value)} is outside ${format(min)} to ${format(max)}`, {
    [what]: value,
    min,
    max,
  });
}

/** A user or group name or number as useradd(8) allows them: it goes into xenstore and from there to chown. */
function checkAccount(what: string, account: string | undefined): void {
  if (account === undefined || /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?$/.test(account)) return;
  throw new ChannelError('usage-invalid', `${what} ${printable(account)} is no user or group name`, {
    [what]: account.slice(0, 40),
  });
}
