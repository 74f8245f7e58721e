/**
 * What a Node program costs that does no more than copy: FOLDER/g0 <-> FOLDER/h0, without a ring, a spool or an account.
 * To see what of a difference to socat is Node's and what is ours.
 */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';

const [folder = '.'] = process.argv.slice(2);

async function client(name: string): Promise<Socket> {
  const server = createServer({ pauseOnConnect: true });
  server.listen(join(folder, name));
  const [socket] = (await once(server, 'connection')) as [Socket];
  server.close();
  return socket;
}

function copy(from: Socket, to: Socket): void {
  from.on('data', (bytes) => {
    if (!to.write(bytes)) from.pause();
  });
  to.on('drain', () => from.resume());
  from.on('error', () => process.exit());
  from.on('close', () => process.exit());
  from.resume();
}

const [guest, host] = await Promise.all([client('g0'), client('h0')]);
copy(guest, host);
copy(host, guest);
