/** Whether a program listens at a socket path, without connecting to it: some servers take one client and no other. */
import { readFile } from 'node:fs/promises';

/** linux:net/unix/af_unix.c prints this flag for listening sockets. */
const ACCEPTS_CONNECTIONS = 0x10000;

/** False where /proc cannot tell. Knows only sockets of this network namespace. */
export async function isListening(path: string, table = '/proc/net/unix'): Promise<boolean> {
  const text = await readFile(table, 'latin1').catch(() => '');
  const wanted = Buffer.from(path).toString('latin1');
  return text.split('\n').some((line) => {
    const [, , , flags = '0', , , , ...rest] = line.split(' ').filter((word) => word !== '');
    return (Number.parseInt(flags, 16) & ACCEPTS_CONNECTIONS) !== 0 && rest.join(' ') === wanted;
  });
}
