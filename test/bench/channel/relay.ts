/**
 * What is measured: the product's ring, session, spool, history and host end between two Unix sockets, FOLDER/g<i> and
 * FOLDER/h<i>, as the daemon puts them together, with a hypervisor in memory. Says "ready" when all channels are served; answers the
 * line "gc" on stdin after a garbage collection, and "dropped" with how many bytes were dropped for slow readers.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { BatchBuffers } from '../../../src/backend/batch.js';
import { OutputFeed } from '../../../src/backend/output-feed.js';
import { RingLink } from '../../../src/backend/ring-link.js';
import { ChannelSession } from '../../../src/backend/session.js';
import { TurnQueue } from '../../../src/backend/turns.js';
import { systemClock } from '../../../src/base/clock.js';
import { FileSpool } from '../../../src/chardev/file-spool.js';
import { PtyChardev } from '../../../src/chardev/pty.js';
import { SocketChardev } from '../../../src/chardev/socket.js';
import type { SpoolQueue } from '../../../src/chardev/spool.js';
import { GuestPage } from '../../../src/hypervisor/guest-page.js';
import { SimulatedHypervisor } from '../../../src/hypervisor/simulated.js';
import { tuneEngine } from '../../../src/sys/engine.js';
import { GuestBuffers, GuestEnd, READS_UNTIL_BREAK } from './guest-end.js';

tuneEngine();
const DOMID = 1;
const SPOOL_BYTES = 1024 * 1024;
const IDLE_PAUSE_MS = 10;

const [folder = '.', channels = '1', host = 'socket', spoolPlace = 'file', breaks] = process.argv.slice(2);
/** Where /run is on most hosts, too: in memory. */
const spoolFolder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'xc-bench-spool-'));
const hypervisor = new SimulatedHypervisor();
const backend = hypervisor.openBackend();
const turns = new TurnQueue();
const spools: SpoolQueue[] = [];
const batches = new BatchBuffers();
const buffers = new GuestBuffers();
const maxReads = breaks === 'breaks' ? READS_UNTIL_BREAK : Number.POSITIVE_INFINITY;

function makeSpool(index: number): SpoolQueue {
  return FileSpool.open({
    path: join(spoolFolder, String(index)),
    key: String(index),
    limitBytes: SPOOL_BYTES,
    policy: 'drop-oldest',
    inMemory: spoolPlace === 'memory',
    onDegraded: (error) => {
      throw error;
    },
  }).spool;
}

async function serve(index: number): Promise<void> {
  const guest = new GuestEnd({ hypervisor, domid: DOMID, page: new GuestPage(), buffers, maxReads });
  const place = { path: join(folder, `h${index}`), clock: systemClock };
  const chardev = host === 'pty' ? new PtyChardev(place) : new SocketChardev(place);
  const spool = makeSpool(index);
  spools.push(spool);
  const output = new OutputFeed(() => session.fromGuestBytes);
  const session: ChannelSession = new ChannelSession({
    chardev,
    spool,
    batches,
    clock: systemClock,
    speakFirst: true,
    hooks: {
      onClient: () => {},
      onIllegalIndex: () => {
        throw new Error('the guest published an illegal index');
      },
      onChardevFailure: (error) => {
        throw error;
      },
      onOutput: (bytes) => output.push(bytes),
      defer: (turn) => turns.defer(turn),
      slowDown: (resume) => void systemClock.after(IDLE_PAUSE_MS, resume),
    },
  });
  await chardev.open(session);
  const offer = { domid: DOMID, ringRef: guest.ringRef, port: guest.port };
  const outcome = new RingLink(backend).connect(offer, () => session.onEvent());
  if (outcome.kind === 'failed') throw outcome.error;
  session.attachRing(outcome.ring, outcome.port);
  spool.setSource({ id: [offer.ringRef, offer.port], position: 0 });
  session.pump();
  await guest.listen(join(folder, `g${index}`));
}

hypervisor.createDomain(DOMID);
for (let index = 0; index < Number(channels); index++) await serve(index);
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (line === 'gc') globalThis.gc?.();
  console.log(line === 'dropped' ? spools.reduce((sum, { dropped }) => sum + dropped, 0) : line);
});
lines.on('close', () => {
  rmSync(spoolFolder, { recursive: true, force: true });
  process.exit();
});
console.log('ready');
