import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { XenstoreEngine } from '../../../xenstore/index.js';
import { Conversation, decodeAll, encodeRequest } from './conversation.js';

const name = fc.constantFrom('a', 'b', 'c');
const path = fc.oneof(
  fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => `/${names.join('/')}`),
  fc.array(name, { minLength: 1, maxLength: 2 }).map((names) => names.join('/')),
  fc.constantFrom('/', '/local/domain/5', '/local/domain/6/a', '@releaseDomain', '', '//', '/a/'),
);
const permission = fc.tuple(fc.constantFrom('n', 'r', 'w', 'b'), fc.constantFrom(0, 5, 6)).map(([a, d]) => `${a}${d}`);
const transaction = fc.constantFrom('', '', '@1', '@2');
const request = fc.oneof(
  fc
    .tuple(fc.constantFrom('READ', 'DIRECTORY', 'GET_PERMS', 'MKDIR', 'RM'), transaction, path)
    .map(([op, tx, p]) => `${op}${tx} ${p}|`),
  fc.tuple(transaction, path, fc.string({ maxLength: 8 })).map(([tx, p, value]) => `WRITE${tx} ${p}|${value}`),
  fc
    .tuple(transaction, path, fc.array(permission, { minLength: 1, maxLength: 3 }))
    .map(([tx, p, list]) => `SET_PERMS${tx} ${p}|${list.join('|')}|`),
  fc
    .tuple(fc.constantFrom('WATCH', 'UNWATCH'), path, fc.constantFrom('t', 'u'))
    .map(([op, p, t]) => `${op} ${p}|${t}|`),
  fc.tuple(path, fc.nat(20)).map(([p, at]) => `DIRECTORY_PART ${p}|${at}|`),
  fc.constantFrom('TRANSACTION_START |', 'TRANSACTION_END@1 T|', 'TRANSACTION_END@2 F|', 'RESET_WATCHES |'),
  fc.constantFrom('INTRODUCE 6|1|1|', 'RELEASE 6|', 'SET_TARGET 5|6|', 'CONTROL quota|5|'),
);
const script = fc.array(fc.tuple(fc.constantFrom('dom0', 'dom5', 'dom0b'), request), { maxLength: 40 });

function prepared(): Conversation {
  const conversation = new Conversation().introduce(5, 6);
  for (const text of ['MKDIR /b|', 'SET_PERMS /b|b0|', 'MKDIR /local/domain/5|', 'SET_PERMS /local/domain/5|n5|']) {
    conversation.ask('dom0', text);
  }
  return conversation;
}

describe('the engine', () => {
  it('answers the same however the bytes of a client are split', () => {
    fc.assert(
      fc.property(
        fc.array(request, { maxLength: 30 }),
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }),
        (requests, sizes) => {
          const bytes = Buffer.concat(requests.map((text) => encodeRequest(text)));
          const whole = prepared();
          whole.client('dom0').connection.push(bytes);
          const split = prepared();
          for (let at = 0, n = 0; at < bytes.length; n++) {
            const size = sizes[n % sizes.length] as number;
            split.client('dom0').connection.push(bytes.subarray(at, at + size));
            at += size;
          }
          // Events that wait for the same chunk are merged: replies are not.
          const replies = (conversation: Conversation) =>
            conversation.drain('dom0').filter((line) => !line.startsWith('WATCH_EVENT'));
          expect(replies(split)).toEqual(replies(whole));
          expect(split.engine.dump()).toEqual(whole.engine.dump());
        },
      ),
    );
  });

  it('survives any bytes, and answers what it can', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }), (chunks) => {
        const engine = new XenstoreEngine();
        engine.introduceDomain(5);
        for (const domid of [0, 5]) {
          const connection = engine.connect(
            domid,
            (bytes) => decodeAll(bytes),
            () => {},
          );
          for (const chunk of chunks) connection.push(Buffer.from(chunk));
        }
        engine.dump();
      }),
    );
  });

  it('survives well-formed headers with any operation and payload', () => {
    const message = fc.tuple(
      fc.integer({ min: 0, max: 28 }),
      fc.integer({ min: 0, max: 2 }),
      fc.uint8Array({ maxLength: 60 }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), message), { maxLength: 40 }), (messages) => {
        const conversation = prepared();
        for (const [asGuest, [type, tx, payload]] of messages) {
          const header = Buffer.alloc(16);
          header.writeUInt32LE(type, 0);
          header.writeUInt32LE(tx, 8);
          header.writeUInt32LE(payload.length, 12);
          conversation.client(asGuest ? 'dom5' : 'dom0').connection.push(Buffer.concat([header, payload]));
          if (!conversation.engine.isIntroduced(5)) break;
        }
        conversation.engine.dump();
      }),
    );
  });

  it('gives one reply per request, of its type or an error', () => {
    fc.assert(
      fc.property(script, (steps) => {
        const conversation = prepared();
        for (const [who, text] of steps) {
          const replies = conversation
            .ask(who, text)
            .filter((line) => !line.startsWith('WATCH_EVENT') && !/^dom\w+ WATCH_EVENT/.test(line));
          expect(replies.length).toBe(1);
          expect(replies[0]).toMatch(new RegExp(`^(ERROR|${/^\w+/.exec(text)?.[0]}) `));
        }
      }),
    );
  });

  it('dumps and loads any tree exactly', () => {
    fc.assert(
      fc.property(script, fc.uint8Array({ maxLength: 30 }), (steps, value) => {
        const conversation = prepared();
        for (const [who, text] of steps) conversation.ask(who, text);
        conversation.ask('dom0', `WRITE /bytes|${Buffer.from(value).toString('latin1')}`);
        const dump = conversation.engine.dump();
        const copy = new XenstoreEngine();
        copy.load(JSON.parse(JSON.stringify(dump)));
        expect(copy.dump()).toEqual(dump);
      }),
    );
  });
});

/** What the permissions of a node allow, told from the dump alone. */
function allows(permissions: readonly string[], domid: number, letter: 'r' | 'w'): boolean {
  const [owner = 'n0', ...others] = permissions;
  if (Number(owner.slice(1)) === domid) return true;
  const entry = others.find((text) => Number(text.slice(1)) === domid) ?? owner;
  return entry.startsWith('b') || entry.startsWith(letter);
}

describe('a domain', () => {
  it('never reads or changes what permissions forbid', () => {
    fc.assert(
      fc.property(
        script.map((steps) => steps.filter(([, text]) => !/SET_TARGET|INTRODUCE|RELEASE|@[12]/.test(text))),
        request.filter((text) => !/@[12]|TRANSACTION|WATCH|CONTROL|INTRODUCE|RELEASE|SET_TARGET/.test(text)),
        (steps, attempt) => {
          const conversation = prepared();
          for (const [who, text] of steps) conversation.ask(who, text);
          const before = new Map(conversation.engine.dump().nodes.map((node) => [node.path, node]));
          const [reply = ''] = conversation.ask('dom5', attempt).filter((line) => !line.includes('WATCH_EVENT'));
          const after = new Map(conversation.engine.dump().nodes.map((node) => [node.path, node]));
          const [, op = '', text = ''] = /^(\w+) ([^|]*)/.exec(attempt) ?? [];
          const target = before.get(text.startsWith('/') ? text : `/local/domain/5/${text}`);
          if (/^(READ|DIRECTORY|DIRECTORY_PART|GET_PERMS)$/.test(op) && !reply.startsWith('ERROR')) {
            expect(target !== undefined && allows(target.permissions, 5, 'r')).toBe(true);
          }
          for (const [at, node] of before) {
            const now = after.get(at);
            const changed = now === undefined || now.value !== node.value || now.base64 !== node.base64;
            // Removing a node needs its own permission only: its descendants go, too.
            const top = op === 'RM' ? (target ?? node) : node;
            if (changed) expect(allows(top.permissions, 5, 'w')).toBe(true);
            if (now !== undefined && String(now.permissions) !== String(node.permissions)) {
              expect(node.permissions[0]?.slice(1)).toBe('5');
            }
          }
          for (const [at] of after) {
            if (before.has(at)) continue;
            let parent = at;
            do parent = parent.slice(0, parent.lastIndexOf('/')) || '/';
            while (!before.has(parent));
            expect(allows(before.get(parent)?.permissions ?? [], 5, 'w')).toBe(true);
          }
        },
      ),
      { numRuns: 400 },
    );
  });
});
