/** What must be true of a channel's account at the end, and how all accounts are printed. */
import { CRASH_BOUND, FILE_CRASH_BOUND } from '../../src/backend/session-types.js';
import { MAX_BACKLOG_BYTES } from '../../src/chardev/input-backlog.js';
import { type Account, SOCKET_BYTES } from './channel.js';

export interface Judgement {
  /** The channel still worked when it was looked at: everything that is not lost has arrived. */
  readonly alive: boolean;
  /** A client read to the end when the channel was taken away: nothing may be left. */
  readonly readToTheEnd: boolean;
  /** What clients that left without reading may have cost. */
  readonly abandonable: number;
}

/** Sentences about what does not balance; none: all is well. */
export function judge(account: Account, { alive, readToTheEnd, abandonable }: Judgement): string[] {
  const { up, down, crashes, spoolSurvives } = account;
  const found = [...account.complaints];
  const demand = (holds: boolean, sentence: string): void => {
    if (!holds) found.push(sentence);
  };
  const reported = up.dropped + up.crashed + up.abandoned + up.outstanding;
  demand(up.missing === reported, `to the host: ${up.missing} bytes are missing, ${reported} are reported`);
  const onTheWay = crashes * (spoolSurvives ? 0 : CRASH_BOUND.lostFromGuestBytesBesidesSpool);
  demand(
    up.abandoned <= abandonable + onTheWay,
    `to the host: ${up.abandoned} bytes were given to clients and never read, ${abandonable + onTheWay} can be explained`,
  );
  const repeatable = crashes * (spoolSurvives ? FILE_CRASH_BOUND : CRASH_BOUND).repeatedFromGuestBytes;
  demand(up.repeated <= repeatable, `to the host: ${up.repeated} bytes came twice, the bound is ${repeatable}`);
  if (alive || readToTheEnd) demand(up.outstanding === 0, `to the host: ${up.outstanding} bytes never left the daemon`);
  demand(down.repeated === 0, `to the guest: ${down.repeated} bytes came twice`);
  // What had not reached the ring when the daemon was killed, and what its socket still held.
  const crashable = crashes * (CRASH_BOUND.lostFromClientBytes + SOCKET_BYTES + MAX_BACKLOG_BYTES);
  demand(down.crashed <= crashable, `to the guest: ${down.crashed} bytes died with daemons, the bound is ${crashable}`);
  if (alive) {
    const lost = down.dropped + down.crashed;
    demand(down.missing === lost, `to the guest: ${down.missing} bytes are missing, ${lost} are reported`);
    demand(down.outstanding === 0, `to the guest: ${down.outstanding} bytes never arrived`);
  } else {
    const lost = down.dropped + down.crashed + down.outstanding;
    demand(down.missing <= lost, `to the guest: ${down.missing} bytes are missing, at most ${lost} are explained`);
  }
  return found;
}

type Direction = Readonly<Record<string, number>>;

function sum(directions: readonly Direction[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const direction of directions)
    for (const [key, value] of Object.entries(direction)) total[key] = (total[key] ?? 0) + value;
  return total;
}

/** Both directions of all channels together. */
export function formatLedger(accounts: readonly Account[]): string {
  const up = sum(accounts.map((account) => account.up));
  const down = sum(accounts.map((account) => account.down));
  const rows = [
    ['', 'to the host', 'to the guest'],
    ['produced', up['produced'], down['accepted']],
    ['received', up['received'], down['received']],
    ['missing', up['missing'], down['missing']],
    ['  dropped and counted', up['dropped'], down['dropped']],
    ['  died with a daemon', up['crashed'], down['crashed']],
    ['  given, never read', up['abandoned'], 0],
    ['  left at the end', up['outstanding'], down['outstanding']],
    ['received twice', up['repeated'], down['repeated']],
    ['holes', up['holes'], down['holes']],
  ];
  return rows
    .map(([name, ...cells]) => [String(name).padEnd(24), ...cells.map((cell) => String(cell).padStart(15))].join(' '))
    .join('\n');
}
