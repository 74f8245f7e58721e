/**
 * The one error class of the product and the table of its stable codes. A code never changes its meaning; the table
 * gives each its exit code and its line in the manual.
 */

/** Exit codes of the command line (README, "Exit codes"). */
export const EXIT = {
  done: 0,
  bug: 1,
  usage: 2,
  notFound: 3,
  conflict: 4,
  permission: 5,
  timeout: 6,
  guestNotReady: 7,
  environment: 8,
  partial: 9,
  interrupted: 130,
} as const;

type ErrorEntry = { readonly exit: number; readonly manual: string };

export const ERRORS = {
  'internal-bug': { exit: EXIT.bug, manual: 'Something in xenchannel itself went wrong; please report it.' },
  'usage-invalid': { exit: EXIT.usage, manual: 'A command-line argument or option does not make sense.' },
  'name-illegal': {
    exit: EXIT.usage,
    manual: 'The channel name is empty, too long, or has a character that is not allowed.',
  },
  'device-id-out-of-range': { exit: EXIT.usage, manual: 'Linux guests only know device ids 1 to 9.' },
  'path-too-long': { exit: EXIT.usage, manual: 'A Unix socket path must fit into sun_path (107 bytes).' },
  'path-illegal': {
    exit: EXIT.usage,
    manual: 'The socket path is not absolute, or holds a character xenstore or the file system refuses.',
  },
  'domain-not-found': { exit: EXIT.notFound, manual: 'No running domain has this id, name or uuid.' },
  'domain-ambiguous': {
    exit: EXIT.conflict,
    manual: 'More than one running domain has this name; use its id or uuid.',
  },
  'channel-not-found': { exit: EXIT.notFound, manual: 'The domain has no channel of this name.' },
  'channel-ambiguous': {
    exit: EXIT.conflict,
    manual: 'The domain has several channels of this name; say which with --device-id.',
  },
  'name-in-use': { exit: EXIT.conflict, manual: 'The domain already has a channel of this name.' },
  'device-id-in-use': { exit: EXIT.conflict, manual: 'The domain already has a console with this device id.' },
  'device-ids-exhausted': { exit: EXIT.conflict, manual: 'All device ids a Linux guest can serve (1 to 7) are taken.' },
  'path-in-use': { exit: EXIT.conflict, manual: 'Another live server or another channel owns the socket path.' },
  'path-not-a-socket': {
    exit: EXIT.conflict,
    manual: 'Something that is not a socket stands at the path; it is left alone.',
  },
  'path-not-a-link': {
    exit: EXIT.conflict,
    manual: 'Something that is not the link of a PTY stands at the path; it is left alone.',
  },
  'path-not-a-file': {
    exit: EXIT.conflict,
    manual: 'Something that is not a regular file of ours stands at the path of a log; it is left alone.',
  },
  'range-gone': {
    exit: EXIT.notFound,
    manual: 'The bytes asked for are not kept any more, or not there yet; the sentence says which offsets are.',
  },
  'account-unknown': { exit: EXIT.usage, manual: 'The user or group that should own the socket does not exist.' },
  'not-ours': { exit: EXIT.conflict, manual: 'The console was made by another toolstack; it is shown, not changed.' },
  'store-conflict': {
    exit: EXIT.conflict,
    manual: 'Other writers kept changing the same xenstore nodes; nothing was written.',
  },
  'permission-denied': {
    exit: EXIT.permission,
    manual: 'xenstore or the file system refused; usually this needs root in dom0.',
  },
  'writer-present': {
    exit: EXIT.conflict,
    manual: 'Another client is writing to the channel; only one may.',
  },
  'channel-closed': {
    exit: EXIT.environment,
    manual: 'The other side closed the connection before everything was done.',
  },
  'wait-timeout': { exit: EXIT.timeout, manual: 'What was waited for did not happen in time.' },
  'guest-not-ready': { exit: EXIT.guestNotReady, manual: 'The frontend of the domain has not connected.' },
  'store-unreachable': { exit: EXIT.environment, manual: 'xenstored does not answer at the given socket or device.' },
  'daemon-unreachable': {
    exit: EXIT.environment,
    manual: 'The xenchannel daemon does not answer on its control socket.',
  },
  'qemu-unreachable': {
    exit: EXIT.environment,
    manual: 'The QEMU of the domain does not answer on its QMP socket, or the domain has none.',
  },
  'qemu-refused': {
    exit: EXIT.conflict,
    manual: 'QEMU refused to add or remove the chardev; the sentence has its words.',
  },
  'not-on-xen': { exit: EXIT.environment, manual: 'The Xen devices are missing or may not be used here.' },
  'module-missing': {
    exit: EXIT.environment,
    manual: 'The optional module koffi, needed for Xen devices and PTYs, is not installed.',
  },
  'system-call-failed': {
    exit: EXIT.environment,
    manual: 'The operating system refused something; the sentence names it.',
  },
  'grant-unmappable': { exit: EXIT.guestNotReady, manual: 'The page that the guest offers cannot be mapped.' },
  'port-unbindable': {
    exit: EXIT.guestNotReady,
    manual: 'The event channel that the guest offers cannot be bound, or somebody else serves it.',
  },
  'ring-indices-illegal': {
    exit: EXIT.guestNotReady,
    manual: 'The guest published ring indices that no correct guest can publish.',
  },
  'frontend-malformed': {
    exit: EXIT.guestNotReady,
    manual: 'The guest wrote a state, ring-ref or port that is no such thing.',
  },
  'chardev-unsupported': {
    exit: EXIT.environment,
    manual: 'This daemon cannot make the kind of host end that was asked for.',
  },
  'frontend-flapping': {
    exit: EXIT.guestNotReady,
    manual: 'The guest connects and disconnects its end too often; it has to wait.',
  },
  'backend-malformed': {
    exit: EXIT.environment,
    manual: 'The backend nodes of a channel contradict themselves or hold values that attach never writes.',
  },
  'state-corrupt': {
    exit: EXIT.environment,
    manual: 'A file of the state directory is damaged, or is not as we write them; it is left alone.',
  },
  'state-locked': {
    exit: EXIT.environment,
    manual: 'Another program has been changing the same record of the state directory for too long.',
  },
  'apply-incomplete': { exit: EXIT.partial, manual: 'Some of what the file asks for could not be done.' },
  'bytes-dropped': { exit: EXIT.partial, manual: 'A bounded queue overflowed; the count says how much was dropped.' },
  interrupted: { exit: EXIT.interrupted, manual: 'Ended by a signal.' },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** What callers may print, store or send: never a secret, never a raw guest string without a bound. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

export class ChannelError extends Error {
  override readonly name = 'ChannelError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, sentence: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(sentence, options);
    this.code = code;
    this.details = details;
  }

  get exitCode(): number {
    return ERRORS[this.code].exit;
  }
}
