/** What a hostile guest tries, as a list: each attempt for a while, and what it met. */
import { Worker } from 'node:worker_threads';
import type { ChannelStatus } from '../../src/backend/status.js';
import { KEY } from '../../src/console/layout.js';
import { IN_BYTES, OUT_BYTES, PAGE_BYTES, WORD } from '../../src/console/ring.js';
import type { HostClient } from './host-client.js';
import type { HostileGuest } from './hostile-guest.js';
import type { Random } from './random.js';

export interface Scene {
  readonly guest: HostileGuest;
  readonly random: Random;
  /** What the daemon says of the attacked channel; undefined when it is not served. */
  readonly status: () => ChannelStatus | undefined;
  /** Ring reference and port of another domain's channel. */
  readonly victim: { readonly reference: number; readonly port: number };
  /** Waits until the backend says Connected. */
  readonly connected: () => Promise<void>;
  readonly client: () => HostClient;
  readonly clientReceived: () => number;
  /** Takes the channel off as an admin does, with or without force; tells how that went. */
  readonly detach: (how: { readonly force: boolean }) => Promise<string>;
  /** `xenchannel list` of the guest's domain after dom0 has made a console without a name, as libxl may. */
  readonly listUnnamed: (writeName: (directory: string) => Promise<unknown>) => Promise<string>;
  /** Runs `turn` in every turn of the event loop until the time of the attack is over. */
  readonly repeat: (turn: () => void | Promise<void>) => Promise<void>;
}

export interface Attack {
  readonly name: string;
  /** Begins without a ring of its own. */
  readonly unconnected?: boolean;
  /** The memory of the ring is shared with another thread. */
  readonly memory?: SharedArrayBuffer;
  /** Returns what it met; throws when the daemon did what it must not. */
  readonly run: (scene: Scene) => Promise<string>;
}

function demand(holds: boolean, sentence: string): void {
  if (!holds) throw new Error(sentence);
}

const indices = (name: string, set: (scene: Scene) => void): Attack => ({
  name,
  run: async (scene) => {
    const before = scene.status()?.fromGuestBytes ?? 0;
    await scene.repeat(() => {
      set(scene);
      scene.guest.ring();
    });
    const { illegalIndices = 0, fromGuestBytes = 0 } = scene.status() ?? {};
    demand(illegalIndices > 0, 'illegal indices were not noticed');
    demand(fromGuestBytes === before, `${fromGuestBytes - before} bytes were taken from illegal indices`);
    return `${illegalIndices} illegal indices counted, no byte taken`;
  },
});

/** Refused writes: each key must give EACCES. */
const forbidden = (keys: readonly string[]): Attack => ({
  name: `writes ${keys.join(', ')}`,
  run: async ({ guest }) => {
    for (const key of keys) {
      const answer = await guest.put(key, '/etc/passwd');
      demand(answer === 'EACCES', `the guest may write ${key}: ${answer}`);
    }
    return 'EACCES for each';
  },
});

const flood = (
  name: string,
  key: string,
  values: readonly string[],
  met: (status: ChannelStatus) => string,
): Attack => ({
  name,
  run: async ({ guest, repeat, status }) => {
    let turns = 0;
    await repeat(async () => {
      await guest.put(key, values[turns++ % values.length] ?? '');
    });
    const now = status();
    return `${turns} writes; ${now === undefined ? 'not served' : met(now)}; ${problems(now)}`;
  },
});

const problems = (status: ChannelStatus | undefined): string =>
  status?.problems.map(({ code }) => code).join(' ') || 'no problem';

const BAD_NUMBERS = [
  '0',
  '-1',
  '1',
  '4294967295',
  '4294967296',
  '99999999999999999999',
  '1e3',
  '0x8',
  ' 8',
  '8 ',
  '',
  'x',
  '8\n',
];

/** Flips indices at full speed in another thread: between any two loads of the daemon. */
const RACER = `
const { workerData } = require('node:worker_threads');
const words = new Int32Array(workerData.memory);
const end = Date.now() + workerData.ms;
for (let n = 0; Date.now() < end; ) for (let k = 0; k < 10000; k++, n++) {
  const cons = Atomics.load(words, ${WORD.outCons});
  Atomics.store(words, ${WORD.outProd}, n & 1 ? cons + (n % ${OUT_BYTES + 1}) : cons + ${OUT_BYTES + 1} + n);
  Atomics.store(words, ${WORD.inCons}, n & 2 ? Atomics.load(words, ${WORD.inProd}) : n * 7919);
  words[n & 255] = n;
}`;
const raceMemory = new SharedArrayBuffer(PAGE_BYTES);

export const ATTACK_MS = 400;

export const ATTACKS: readonly Attack[] = [
  indices('out_prod one byte too far', ({ guest }) => guest.setWord('outProd', guest.word('outCons') + OUT_BYTES + 1)),
  indices('out_prod behind out_cons', ({ guest }) => guest.setWord('outProd', guest.word('outCons') - 1)),
  indices('out_prod at random', ({ guest, random }) =>
    guest.setWord('outProd', guest.word('outCons') + random.between(OUT_BYTES + 1, 2 ** 32 - 1)),
  ),
  {
    name: 'in_cons ahead of in_prod',
    run: async ({ guest, client, repeat, status }) => {
      guest.write(Buffer.from('!'));
      await repeat(() => {
        guest.setWord('inCons', guest.word('inProd') + 1);
        client().write(Buffer.alloc(512, 'x'));
        guest.ring();
      });
      const pending = status()?.toGuestBytes ?? 0;
      demand(pending <= 4 * IN_BYTES, `${pending} bytes were written into a ring that says no room`);
      return `${pending} bytes written, then held back`;
    },
  },
  {
    name: "overwrites the backend's own indices",
    run: async ({ guest, repeat, random, clientReceived }) => {
      let wrote = 0;
      let own = guest.word('outCons');
      const before = clientReceived();
      await repeat(() => {
        // It remembers what the daemon has, and lies about it in the page.
        guest.setWord('outCons', own);
        const count = guest.write(Buffer.alloc(100, 'y'));
        own += count;
        wrote += count;
        guest.setWord('outCons', random.between(0, 2 ** 32 - 1));
        guest.setWord('inProd', random.between(0, 2 ** 32 - 1));
      });
      await repeat(() => {});
      const received = clientReceived() - before;
      demand(received === wrote, `the client has ${received} of ${wrote} bytes`);
      return `${wrote} bytes arrived all the same`;
    },
  },
  {
    name: 'fills the page with noise',
    run: async ({ guest, repeat, random, status }) => {
      await repeat(() => {
        for (let word = 0; word < 800; word++) guest.page.words[word] = random.between(0, 2 ** 32 - 1) | 0;
        guest.ring();
      });
      return `${status()?.illegalIndices} illegal indices, ${status()?.fromGuestBytes} bytes taken`;
    },
  },
  {
    name: 'changes indices between two loads (another thread)',
    memory: raceMemory,
    run: async ({ guest, repeat, status, client }) => {
      const worker = new Worker(RACER, { eval: true, workerData: { memory: raceMemory, ms: ATTACK_MS } });
      const ended = new Promise<void>((settle) => worker.on('exit', () => settle()));
      await repeat(() => {
        guest.ring();
        client().write(Buffer.alloc(64, 'z'));
      });
      await ended;
      return `${status()?.illegalIndices} illegal indices, ${status()?.fromGuestBytes} bytes taken`;
    },
  },
  {
    name: 'rings without data',
    run: async ({ guest, repeat, status }) => {
      let rung = 0;
      const before = status()?.events ?? 0;
      await repeat(() => {
        for (let n = 0; n < 1000; n++, rung++) guest.ring();
      });
      const served = (status()?.events ?? 0) - before;
      demand(served < 1000, `${served} events without data were served in ${ATTACK_MS} ms`);
      return `${rung} rung, ${served} served`;
    },
  },
  {
    name: 'never-ending output, nobody reads',
    run: async ({ guest, repeat, status, client }) => {
      client().leave({ drain: true });
      const bytes = Buffer.alloc(OUT_BYTES, 'o');
      await repeat(() => {
        for (let n = 0; n < 50; n++) guest.write(bytes);
      });
      const { spoolBytes = 0, spoolLimitBytes = 0, droppedBytes = 0 } = status() ?? {};
      demand(spoolBytes <= spoolLimitBytes, `the spool has ${spoolBytes} bytes, its limit is ${spoolLimitBytes}`);
      return `${spoolBytes} bytes kept, ${droppedBytes} dropped and counted`;
    },
  },
  {
    name: 'never reads its input',
    run: async ({ guest, repeat, status, client }) => {
      guest.write(Buffer.from('!'));
      let accepted = 0;
      await repeat(() => {
        accepted += client().write(Buffer.alloc(65_536, 'i'));
      });
      const { inputBytes = 0, inRingBytes = 0 } = status() ?? {};
      demand(inRingBytes <= IN_BYTES && inputBytes <= 2 * 65_536, `the daemon holds ${inputBytes} bytes of input`);
      return `the client was stopped after ${accepted} bytes, the daemon holds ${inputBytes}`;
    },
  },
  {
    name: 'revokes its page while it is mapped',
    run: async ({ guest, repeat, status }) => {
      const freed = guest.revoke();
      await repeat(() => guest.ring());
      return `${freed ? 'freed' : 'only itself is hurt'}, still ${status()?.phase}`;
    },
  },
  {
    name: 'closes its event channel',
    run: async ({ guest, repeat, client }) => {
      guest.closePort();
      await repeat(() => {
        client().write(Buffer.from('into the void'));
      });
      return 'bytes wait, nothing else';
    },
  },
  {
    name: 'offers rings and ports that are none',
    unconnected: true,
    run: async ({ guest, repeat, status, victim }) => {
      const values = [...BAD_NUMBERS, String(victim.reference), String(victim.port), 'n'.repeat(3000)];
      let turns = 0;
      await repeat(async () => {
        await guest.put('ring-ref', values[turns % values.length] ?? '');
        await guest.put('port', values[Math.floor(turns / values.length) % values.length] ?? '');
        await guest.put('state', '3');
        turns++;
      });
      demand(status()?.phase !== 'connected', 'the daemon connected to something');
      return `${turns} offers, ${status()?.malformed} malformed, ${status()?.connects} connected`;
    },
  },
  {
    name: "offers another domain's ring with its own port",
    unconnected: true,
    run: async ({ guest, victim, repeat, status }) => {
      await guest.offer();
      await guest.put('ring-ref', String(victim.reference));
      await guest.put('port', String(victim.port));
      await repeat(() => guest.ring());
      const { connects = 0 } = status() ?? {};
      demand(connects <= 1, `${connects} connects`);
      return `${connects} connected, ${problems(status())}`;
    },
  },
  flood('flaps its state', 'state', ['3', '6', '1', '4', '5', '3', '4', '6'], ({ connects }) => {
    demand(connects <= 10, `${connects} connects within ${ATTACK_MS} ms`);
    return `${connects} connects`;
  }),
  flood(
    'writes states that are none',
    'state',
    ['', '0', '9', '-1', 'x'.repeat(2000), '4\n', '\u0000', '３'],
    (status) => `${status.malformed} malformed, ${status.phase}`,
  ),
  flood(
    'asks who it is without end',
    KEY.identify,
    ['0123456789abcdef', 'fedcba9876543210'],
    ({ identifyAnswers }) => `${identifyAnswers} answers`,
  ),
  flood(
    'asks with junk',
    KEY.identify,
    ['', 'x', '../..', 'f'.repeat(3000), 'XCID \n'],
    ({ malformed, identifyAnswers }) => {
      demand(identifyAnswers === 0, 'junk was answered');
      return `${malformed} malformed, none answered`;
    },
  ),
  flood('claims to be open and closed', KEY.guestOpen, ['0', '1', '2', '', 'x'], ({ events }) => `${events} events`),
  flood(
    'points to another backend',
    'backend',
    ['/local/domain/0', '/local/domain/0/backend/console/2/1', '../..', ''],
    (status) => `still ${status.phase}`,
  ),
  flood('names another backend domain', 'backend-id', ['1', '2', '-1', 'x'], (status) => `still ${status.phase}`),
  forbidden(['name', 'output', 'type', 'tty', 'limit']),
  {
    name: `makes ${KEY.hostOpen} before the daemon does`,
    unconnected: true,
    run: async ({ guest, repeat, connected }) => {
      const early = await guest.put(KEY.hostOpen, '7');
      await guest.offer();
      await connected();
      await repeat(() => {});
      const late = await guest.put(KEY.hostOpen, '7');
      demand(late === 'EACCES', `the guest may write it when the daemon has: ${late}`);
      return `${early}, then ${late}`;
    },
  },
  {
    name: 'makes consoles of its own',
    run: async ({ guest }) => {
      const answers = new Set<string>();
      for (const path of [
        'device/console/5',
        'device/console/9/name',
        '/local/domain/0/backend/console/1/5',
        '/libxl/1',
      ])
        answers.add(await guest.attempt(() => guest.store.write(path, 'x')));
      demand(!answers.has('OK'), 'the guest made a node that is not its own');
      return [...answers].join(' ');
    },
  },
  {
    name: 'deletes its frontend, tries to make another',
    run: async ({ guest, repeat, status }) => {
      const removed = await guest.attempt(() => guest.store.rm(guest.frontend));
      const made = await guest.attempt(() => guest.store.mkdir(guest.frontend));
      demand(made === 'EACCES', `the guest made its frontend again: ${made}`);
      await repeat(() => guest.ring());
      demand(status()?.phase !== 'connected', 'the ring is still served');
      return `${removed}, then ${made}; channel ${status()?.phase ?? 'not served'}`;
    },
  },
  {
    name: 'fills its frontend up to the quota',
    run: async ({ guest, repeat, status }) => {
      const answers = new Map<string, number>();
      let made = 0;
      await repeat(async () => {
        const junk = Array.from({ length: 20 }, () => guest.put(`junk-${made++}`, 'j'.repeat(1500)));
        for (const answer of await Promise.all(junk)) answers.set(answer, (answers.get(answer) ?? 0) + 1);
      });
      for (let n = 0; n < made; n++) await guest.attempt(() => guest.store.rm(`${guest.frontend}/junk-${n}`));
      return `${[...answers].map(([answer, count]) => `${count} ${answer}`).join(', ')}; still ${status()?.phase}`;
    },
  },
  {
    name: "leaves transactions open on the daemon's nodes",
    run: async ({ guest, repeat, status }) => {
      const connections = await Promise.all([guest.connect(), guest.connect()]);
      const never = new Promise<void>(() => {});
      const hanging = connections.flatMap((store) =>
        Array.from({ length: 5 }, () =>
          store.transaction(async (tx) => {
            await tx.write(`${guest.frontend}/state`, '4');
            await tx.tryReadText(`${guest.frontend}/${KEY.hostOpen}`);
            await never;
          }),
        ),
      );
      for (const open of hanging) open.catch(() => {});
      await repeat(async () => {
        await guest.put('state', '4');
      });
      for (const store of connections) await store.close();
      return `${hanging.length} open, channel ${status()?.phase}`;
    },
  },
  {
    name: 'watches everything, again and again',
    run: async ({ guest, repeat }) => {
      const store = await guest.connect();
      const answers = new Map<string, number>();
      let n = 0;
      await repeat(async () => {
        const answer = await guest.attempt(() => store.watch(n++ % 2 === 0 ? guest.frontend : '/', () => {}));
        answers.set(answer, (answers.get(answer) ?? 0) + 1);
        await guest.put('state', '4');
      });
      await store.close();
      return [...answers].map(([answer, count]) => `${count} ${answer}`).join(', ');
    },
  },
  ...[false, true].map(
    (force): Attack => ({
      name: `floods its frontend while it is detached${force ? ' by force' : ''}`,
      run: async ({ guest, detach }) => {
        let working = true;
        const flooding = (async () => {
          for (let n = 0; working; n++) {
            await guest.put(['state', 'ring-ref', KEY.guestOpen][n % 3] ?? '', ['3', '4', '5'][n % 3] ?? '');
          }
        })();
        try {
          return await detach({ force });
        } finally {
          working = false;
          await flooding;
        }
      },
    }),
  ),
  {
    name: 'gives an unnamed console names with every trick',
    run: async ({ guest, listUnnamed }) => {
      const names = ['../../../etc/passwd', 'a\nb', '%n%s', '\u001b[2J', '-rf', 'x'.repeat(2000), '', 'victim', '日本'];
      for (const name of names) {
        const shown = await listUnnamed((directory) => guest.store.write(`${directory}/name`, name));
        const raw = shown.includes('etc/passwd') || shown.includes('\u001b') || shown.includes('a\nb');
        demand(!raw, `a guest's own name reaches the list: ${JSON.stringify(shown.slice(0, 200))}`);
      }
      return `${names.length} names, none believed`;
    },
  },
];
