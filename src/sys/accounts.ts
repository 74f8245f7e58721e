/** Numbers of users and groups. Reads the files themselves: Node has no getpwnam(3). Knows nothing of what they will own. */
import { readFileSync } from 'node:fs';
import { ChannelError } from '../base/errors.js';

/** For chown(2): -1 leaves it as it is. Throws ChannelError `account-unknown`. */
export function uidOf(user: string | undefined): number {
  return accountNumber('/etc/passwd', 'user', user);
}

/** As `uidOf`, of a group. */
export function gidOf(group: string | undefined): number {
  return accountNumber('/etc/group', 'group', group);
}

function accountNumber(database: string, what: string, account: string | undefined): number {
  if (account === undefined) return -1;
  if (/^\d{1,10}$/.test(account)) return Number(account);
  const line = readFileSync(database, 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${account}:`));
  const number = line?.split(':')[2];
  if (number === undefined) {
    throw new ChannelError('account-unknown', `there is no ${what} '${account}' in ${database}`, { [what]: account });
  }
  return Number(number);
}
