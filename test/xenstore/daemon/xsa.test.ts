/**
 * What security advisories about xenstore daemons were about, as inputs: whichever genuine daemon ours is like, none of
 * them may do harm. Most are denials of service by a guest; the rest let a guest see or have what it must not.
 */
import { describe, expect, it } from 'vitest';
import type { Likeness } from '../../../xenstore/index.js';
import { encodeMessage, HEADER_BYTES, Op } from '../../../xenstore/index.js';
import { Conversation, decodeAll, encodeRequest } from './conversation.js';

const LIKENESSES: readonly Likeness[] = ['xenstored-4.17', 'xenstored', 'oxenstored'];
const HOMES = ['5', '6'].flatMap((domid) => [
  `WRITE /local/domain/${domid}|`,
  `SET_PERMS /local/domain/${domid}|n${domid}|`,
]);

function prepared(like: Likeness): Conversation {
  const world = new Conversation({ like }).introduce(5, 6);
  for (const request of HOMES) world.ask('dom0', request);
  return world;
}

function first(lines: readonly string[]): string {
  return lines.find((line) => !line.startsWith('WATCH_EVENT')) ?? 'nothing';
}

function isRefused(line: string): boolean {
  return line.startsWith('ERROR ');
}

/** Nodes that belong to the domain. */
function nodesOf(world: Conversation, domid: number): number {
  return world.engine.dump().nodes.filter(({ permissions }) => permissions[0]?.slice(1) === String(domid)).length;
}

/** Another domain and dom0 are served as ever, and the tree is whole. */
function isSound(world: Conversation): void {
  expect(first(world.ask('dom6', 'WRITE alive|yes'))).toBe('WRITE OK|');
  expect(first(world.ask('dom0', 'READ /local/domain/6/alive|'))).toBe('READ yes');
  const { nodes } = world.engine.dump();
  const paths = new Set(nodes.map(({ path }) => path));
  for (const { path } of nodes) expect(paths).toContain(path.slice(0, path.lastIndexOf('/')) || '/');
}

function reuse(world: Conversation, domid: number, name: string): string {
  world.engine.releaseDomain(domid);
  world.engine.introduceDomain(domid);
  return name;
}

/** [advisory, what was attacked, what must hold, the attack] */
type Attack = readonly [number, string, string, (world: Conversation) => void];

const ATTACKS: readonly Attack[] = [
  [
    115,
    'watches told guests of nodes that they may not read',
    'no event',
    (world) => {
      world.ask('dom0', 'WRITE /secret/a|1');
      for (const path of ['/', '/secret', '/secret/a']) world.ask('dom5', `WATCH ${path}|t|`);
      for (const request of ['WRITE /secret/a|2', 'SET_PERMS /secret/a|n0|', 'RM /secret/a|', 'RM /secret|']) {
        expect(world.ask('dom0', request).filter((line) => line.startsWith('dom5'))).toEqual([]);
      }
    },
  ],
  [
    322,
    'a new domain had the rights of its predecessor of the same number',
    'the successor reads nothing, and owns nothing',
    (world) => {
      world.ask('dom0', 'WRITE /given|1');
      world.ask('dom0', 'SET_PERMS /given|n0|b5|');
      expect(first(world.ask('dom5', 'READ /given|'))).toBe('READ 1');
      const successor = reuse(world, 5, 'dom5b');
      for (const request of ['READ /given|', 'WRITE /given|2', 'SET_PERMS /given|n0|b5|']) {
        expect(first(world.ask(successor, request))).toBe('ERROR EACCES|');
      }
      expect(nodesOf(world, 5)).toBe(0);
    },
  ],
  [
    323,
    'a domain targeted at another kept rights after the other died',
    'nodes of the successor stay closed',
    (world) => {
      world.ask('dom0', 'SET_TARGET 6|5|');
      world.ask('dom0', 'SET_TARGET 6|6|');
      reuse(world, 5, '');
      world.ask('dom0', 'WRITE /local/domain/5/x|1');
      world.ask('dom0', 'SET_PERMS /local/domain/5/x|n5|');
      expect(first(world.ask('dom6', 'READ /local/domain/5/x|'))).toBe('ERROR EACCES|');
    },
  ],
  [
    324,
    'an event that is longer than a message crashed the daemon',
    'no message for a guest is too long',
    (world) => {
      world.ask('dom5', `WATCH a|${'t'.repeat(4000)}|`);
      const client = world.client('dom5');
      world.drain();
      world.ask('dom5', 'WRITE a|1');
      client.connection.push(encodeRequest(`WRITE a/${'b'.repeat(900)}|1`));
      const bytes = Buffer.concat(client.received);
      for (let at = 0; at < bytes.length; at += HEADER_BYTES + bytes.readUInt32LE(at + 12)) {
        expect(bytes.readUInt32LE(at + 12)).toBeLessThanOrEqual(4096);
      }
    },
  ],
  [
    325,
    'a guest that did not answer kept its predecessor’s connection',
    'the connection ends with the domain',
    (world) => {
      const client = world.client('dom5');
      world.ask('dom5', 'WATCH a|t|');
      client.connection.hold();
      world.engine.releaseDomain(5);
      expect(client.closedByServer).toBe(true);
      client.connection.push(encodeRequest('READ a|'));
      expect(client.received).toEqual([]);
    },
  ],
  [
    326,
    'guests had the daemon keep memory without bounds',
    'watches, transactions, nodes and what waits for a silent client are limited',
    (world) => {
      const count = (times: number, request: (i: number) => string) =>
        Array.from({ length: times }, (_, i) => first(world.ask('dom5', request(i)))).filter((a) => !isRefused(a))
          .length;
      expect(count(300, (i) => `WATCH w${i}|t|`)).toBeLessThan(135);
      expect(count(30, () => 'TRANSACTION_START |')).toBeLessThan(15);
      expect(count(1200, (i) => `WRITE n${i % 30}/${i}|`)).toBeLessThan(1000);
      const { connection, received } = world.client('dom5');
      connection.hold();
      for (let i = 0; i < 6000; i++) connection.push(encodeRequest(`READ ${'x'.repeat(800)}|`));
      expect(connection.waitingBytes).toBeLessThan(3 * 1024 * 1024);
      received.length = 0;
    },
  ],
  [
    330,
    'RESET_WATCHES left watches behind',
    'the quota is free again, and nothing fires',
    (world) => {
      for (let round = 0; round < 50; round++) {
        for (let i = 0; i < 90; i++) expect(first(world.ask('dom5', `WATCH w${i}|t|`))).toBe('WATCH OK|');
        expect(world.ask('dom5', 'RESET_WATCHES |')).toEqual(['RESET_WATCHES OK|']);
      }
      expect(world.ask('dom5', 'WRITE w1|1')).toEqual(['WRITE OK|']);
    },
  ],
  [
    352,
    'a guest gave its nodes to another domain',
    'the owner stays',
    (world) => {
      world.ask('dom5', 'WRITE a|1');
      for (const owner of [0, 6]) expect(isRefused(first(world.ask('dom5', `SET_PERMS a|b${owner}|`)))).toBe(true);
      expect(world.ask('dom0', 'GET_PERMS /local/domain/5/a|')).toEqual(['GET_PERMS n5|']);
    },
  ],
  [
    353,
    'the root was removed and written by any guest',
    'refused',
    (world) => {
      const before = world.engine.dump();
      for (const request of ['RM /|', 'WRITE /|1', 'SET_PERMS /|b5|', 'DIRECTORY /|', 'GET_PERMS /|']) {
        expect(isRefused(first(world.ask('dom5', request)))).toBe(true);
      }
      expect(world.engine.dump()).toEqual(before);
    },
  ],
  [
    414,
    'a deep tree exhausted the stack when its end was written',
    'it can be made, changed and removed',
    (world) => {
      const path = Array.from({ length: 450 }, () => 'd').join('/');
      expect(first(world.ask('dom5', `WRITE ${path}|1`))).toBe('WRITE OK|');
      expect(first(world.ask('dom5', `READ ${path}|`))).toBe('READ 1');
      expect(first(world.ask('dom5', 'RM d|'))).toBe('RM OK|');
    },
  ],
  [
    415,
    'a creation that failed half way left nodes without parents',
    'each node has a parent',
    (world) => {
      for (let i = 0; i < 990; i++) world.ask('dom5', `WRITE n${i % 30}/${i}|`);
      world.ask('dom5', `WRITE ${'z/'.repeat(40)}z|1`);
      world.ask('dom5', 'TRANSACTION_START |');
      world.ask('dom5', `WRITE@1 ${'y/'.repeat(40)}y|1`);
      world.ask('dom5', 'TRANSACTION_END@1 T|');
      world.ask('dom5', `WRITE big|${'v'.repeat(4000)}`);
    },
  ],
  [
    416,
    'memory of a request was kept while the client did not read',
    'a client that reads again gets everything, and nothing stays',
    (world) => {
      const { connection, received } = world.client('dom5');
      connection.hold();
      for (let i = 0; i < 200; i++) connection.push(encodeRequest('READ none|'));
      expect(received).toEqual([]);
      connection.release();
      expect(decodeAll(Buffer.concat(received))).toHaveLength(200);
      expect(connection.waitingBytes).toBe(0);
    },
  ],
  [
    417,
    'nodes of a domain that died went to its successor',
    'they are gone, also where others wrote below them',
    (world) => {
      world.ask('dom5', 'WRITE a/b|1');
      world.ask('dom5', 'SET_PERMS a|n5|b6|');
      world.ask('dom6', 'WRITE /local/domain/5/a/c|1');
      const successor = reuse(world, 5, 'dom5b');
      expect(world.engine.dump().nodes.filter(({ path }) => path.startsWith('/local/domain/5'))).toEqual([]);
      expect(isRefused(first(world.ask(successor, 'READ a/b|')))).toBe(true);
    },
  ],
  [
    418,
    'a deep tree exhausted the stack at the death of its owner',
    'it is gone, in time',
    (world) => {
      for (let i = 0; i < 2; i++) world.ask('dom5', `WRITE ${'d/'.repeat(400 + i)}e|1`);
      const start = performance.now();
      world.engine.releaseDomain(5);
      expect(performance.now() - start).toBeLessThan(1000);
      expect(nodesOf(world, 5)).toBe(0);
    },
  ],
  [
    419,
    'two guests together had more nodes than their quotas allow',
    'each has at most its quota',
    (world) => {
      world.ask('dom5', 'WRITE shared|');
      world.ask('dom5', 'SET_PERMS shared|n5|b6|');
      for (let i = 0; i < 2100; i++) {
        world.ask(i % 2 === 0 ? 'dom5' : 'dom6', `WRITE /local/domain/5/shared/${i % 40}/${i}|`);
        if (i % 50 === 0) world.ask('dom5', `SET_PERMS shared/${i % 40}|n5|b6|`);
      }
      for (const domid of [5, 6]) expect(nodesOf(world, domid)).toBeLessThanOrEqual(1000);
      world.ask('dom0', 'RM /local/domain/5/shared|');
    },
  ],
  [
    420,
    'numbers beyond 31 bits were cut and meant something else',
    'they mean nothing',
    (world) => {
      world.ask('dom5', 'TRANSACTION_START |');
      const { connection, received } = world.client('dom5');
      for (const id of [0x80000001, 0xc0000001, 0x40000001, 0xffffffff]) {
        received.length = 0;
        connection.push(encodeMessage(Op.Read, 1, id, Buffer.from('a\0')));
        expect(isRefused(decodeAll(Buffer.concat(received))[0] ?? '')).toBe(true);
      }
    },
  ],
  [
    421,
    'transactions had more nodes than the quota allows',
    'the quota holds whatever is committed',
    (world) => {
      for (let i = 1; i <= 9; i++) {
        world.ask('dom5', 'TRANSACTION_START |');
        for (let n = 0; n < 150; n++) world.ask('dom5', `WRITE@${i} t${i}/${n}|`);
        world.ask('dom5', `TRANSACTION_END@${i} T|`);
      }
      expect(nodesOf(world, 5)).toBeLessThanOrEqual(1001);
    },
  ],
  [
    425,
    'the daemon crashed when a domain was released that had a transaction open',
    'the transaction is gone with it',
    (world) => {
      world.ask('dom5', 'TRANSACTION_START |');
      world.ask('dom5', 'WRITE@1 a|1');
      expect(first(world.ask('dom0', 'RELEASE 5|'))).toBe('RELEASE OK|');
      expect(isRefused(first(world.ask('dom0', 'RELEASE 5|')))).toBe(true);
      world.introduce(5);
      expect(isRefused(first(world.ask('dom5b', 'TRANSACTION_END@1 T|')))).toBe(true);
      expect(first(world.ask('dom0', 'READ /local/domain/5/a|'))).toBe('ERROR ENOENT|');
    },
  ],
  [
    481,
    'the path /local/domain/ failed an assertion',
    'it is no path',
    (world) => {
      for (const path of [
        '/local/domain/',
        '/local/domain//',
        '/local/domain/5/',
        '/local/domain/x/',
        '/local/domain',
      ]) {
        for (const op of ['READ', 'DIRECTORY', 'GET_PERMS', 'MKDIR', 'RM']) {
          expect(isRefused(first(world.ask('dom5', `${op} ${path}|`)))).toBe(true);
        }
      }
      for (const path of ['/local/domain/', '/local/domain/5/', '/local/domain//']) {
        expect(first(world.ask('dom5', `WATCH ${path}|t|`))).toBe('ERROR EINVAL|');
        expect(first(world.ask('dom0', `WRITE ${path}|1`))).toBe('ERROR EINVAL|');
      }
    },
  ],
  [
    483,
    'a new domain inherited its predecessor’s use of quotas',
    'it has all of them',
    (world) => {
      for (let round = 0; round < 3; round++) {
        const me = `dom5${'abc'[round]}`;
        for (let i = 0; i < 940; i++) expect(first(world.ask(me, `WRITE n${i % 30}/${i}|`))).toBe('WRITE OK|');
        for (let i = 0; i < 90; i++) expect(first(world.ask(me, `WATCH w${i}|t|`))).toBe('WATCH OK|');
        for (let i = 0; i < 8; i++) expect(isRefused(first(world.ask(me, 'TRANSACTION_START |')))).toBe(false);
        reuse(world, 5, '');
        for (const request of HOMES.slice(0, 2)) world.ask('dom0', request);
      }
    },
  ],
  [
    484,
    'RESET_WATCHES within a transaction failed an assertion',
    'it ends the transaction',
    (world) => {
      for (const who of ['dom5', 'dom0']) {
        const [started = ''] = world.ask(who, 'TRANSACTION_START |');
        const id = /\d+/.exec(started)?.[0];
        world.ask(who, `WRITE@${id} a|1`);
        world.ask(who, 'WATCH a|t|');
        expect(world.ask(who, `RESET_WATCHES@${id} |`)).toEqual(['RESET_WATCHES OK|']);
        expect(isRefused(first(world.ask(who, `TRANSACTION_END@${id} T|`)))).toBe(true);
        expect(world.ask(who, 'WRITE a|2')).toEqual(['WRITE OK|']);
      }
    },
  ],
];

describe.each(LIKENESSES)('like %s,', (like) => {
  it.each(ATTACKS)('XSA-%i: %s; now: %s', (_advisory, _attack, _holds, attack) => {
    const world = prepared(like);
    attack(world);
    isSound(world);
  });
});
