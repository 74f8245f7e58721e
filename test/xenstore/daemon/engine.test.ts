import { describe, expect, it } from 'vitest';
import { Conversation, encodeRequest, type Step } from './conversation.js';

/** Each case starts with a fresh daemon in which domains 5, 6 and 7 are introduced and 5 and 6 have a home. */
const HOMES: readonly Step[] = [
  ['dom0', 'MKDIR /local/domain/5|', 'MKDIR OK|'],
  ['dom0', 'SET_PERMS /local/domain/5|n5|', 'SET_PERMS OK|'],
  ['dom0', 'MKDIR /local/domain/6|', 'MKDIR OK|'],
  ['dom0', 'SET_PERMS /local/domain/6|n6|r5|', 'SET_PERMS OK|'],
];

const CASES: ReadonlyArray<readonly [name: string, steps: readonly Step[]]> = [
  [
    'a fresh store has the nodes of a genuine one',
    [
      ['dom0', 'DIRECTORY /|', 'DIRECTORY tool|local|'],
      ['dom0', 'DIRECTORY /tool|', 'DIRECTORY xenstored|'],
      ['dom0', 'GET_PERMS /|', 'GET_PERMS n0|'],
    ],
  ],
  [
    'values may be empty or contain any byte',
    [
      ['dom0', 'WRITE /a|', 'WRITE OK|'],
      ['dom0', 'READ /a|', 'READ '],
      ['dom0', 'WRITE /a|x|y\xff', 'WRITE OK|'],
      ['dom0', 'READ /a|', 'READ x|y\xff'],
    ],
  ],
  [
    'writing and mkdir create missing parents with empty values',
    [
      ['dom0', 'WRITE /a/b/c|v', 'WRITE OK|'],
      ['dom0', 'READ /a/b|', 'READ '],
      ['dom0', 'MKDIR /a/b/c|', 'MKDIR OK|'],
      ['dom0', 'READ /a/b/c|', 'READ v'],
    ],
  ],
  [
    'children are listed in the order of their creation, also after a removal',
    [
      ['dom0', 'WRITE /d/z|', 'WRITE OK|'],
      ['dom0', 'WRITE /d/a|', 'WRITE OK|'],
      ['dom0', 'WRITE /d/m|', 'WRITE OK|'],
      ['dom0', 'RM /d/a|', 'RM OK|'],
      ['dom0', 'WRITE /d/a|', 'WRITE OK|'],
      ['dom0', 'DIRECTORY /d|', 'DIRECTORY z|m|a|'],
    ],
  ],
  [
    'malformed requests are refused with the errors of C xenstored',
    [
      ['dom0', 'READ /a', 'ERROR ENOENT|'],
      ['dom0', 'READ /tool|x|', 'ERROR ENOENT|'],
      ['dom0', 'MKDIR /a', 'ERROR ENOMEM|'],
      ['dom0', 'WRITE /a', 'ERROR EINVAL|'],
      ['dom0', 'READ /a//b|', 'ERROR EINVAL|'],
      ['dom0', 'READ /a/|', 'ERROR EINVAL|'],
      ['dom0', 'READ /a.b|', 'ERROR EINVAL|'],
      ['dom0', 'READ @releaseDomain|', 'ERROR EINVAL|'],
      ['dom0', 'WATCH /a|', 'ERROR EINVAL|'],
      ['dom0', 'WATCH /a|t|3|', 'ERROR EINVAL|'],
      ['dom0', 'SET_PERMS /tool|', 'ERROR EINVAL|'],
      ['dom0', 'SET_PERMS /tool|x0|', 'ERROR EINVAL|'],
      ['dom0', '15 |', 'ERROR ENOSYS|'],
      ['dom0', '20 |', 'ERROR ENOSYS|'],
      ['dom0', '23 |', 'ERROR ENOSYS|'],
      ['dom0', '4294967295 |', 'ERROR ENOSYS|'],
    ],
  ],
  [
    'removing an absent node is fine as long as its parent exists; the root stays',
    [
      ['dom0', 'RM /tool/none|', 'RM OK|'],
      ['dom0', 'RM /none/none|', 'ERROR ENOENT|'],
      ['dom0', 'RM /|', 'ERROR EINVAL|'],
    ],
  ],
  [
    'relative paths hang below the caller’s own domain',
    [
      ['dom5', 'WRITE data/x|v', 'WRITE OK|'],
      ['dom0', 'READ /local/domain/5/data/x|', 'READ v'],
      ['dom0', 'WRITE x|w', 'WRITE OK|'],
      ['dom0', 'READ /local/domain/0/x|', 'READ w'],
    ],
  ],
  [
    'an unprivileged creator owns what it makes, whoever owns the parent',
    [
      ['dom0', 'WRITE /shared|', 'WRITE OK|'],
      ['dom0', 'SET_PERMS /shared|b0|r6|', 'SET_PERMS OK|'],
      ['dom5', 'WRITE /shared/mine|v', 'WRITE OK|'],
      ['dom0', 'GET_PERMS /shared/mine|', 'GET_PERMS b5|r6|'],
      ['dom0', 'WRITE /local/domain/5/x|', 'WRITE OK|'],
      ['dom0', 'GET_PERMS /local/domain/5/x|', 'GET_PERMS n5|'],
    ],
  ],
  [
    'what a domain may not read it is told nothing about',
    [
      ['dom5', 'READ /tool|', 'ERROR EACCES|'],
      ['dom5', 'READ /none|', 'ERROR EACCES|'],
      ['dom5', 'READ /local/domain/6|', 'READ '],
      ['dom5', 'READ /local/domain/6/none|', 'ERROR ENOENT|'],
      ['dom5', 'WRITE /local/domain/6/x|', 'ERROR EACCES|'],
      ['dom5', 'RM /local/domain/6|', 'ERROR EACCES|'],
      ['dom5', 'CONTROL help|', 'ERROR EACCES|'],
      ['dom5', 'INTRODUCE 9|1|1|', 'ERROR EACCES|'],
    ],
  ],
  [
    'only dom0 may give a node away',
    [
      ['dom5', 'WRITE x|', 'WRITE OK|'],
      ['dom5', 'SET_PERMS x|n6|', 'ERROR EPERM|'],
      ['dom5', 'SET_PERMS x|n5|r6|', 'SET_PERMS OK|'],
      ['dom6', 'READ /local/domain/5/x|', 'READ '],
      ['dom6', 'SET_PERMS /local/domain/5/x|n6|', 'ERROR EACCES|'],
      ['dom0', 'SET_PERMS /local/domain/5/x|n99|', 'ERROR ENOENT|'],
      ['dom0', 'SET_PERMS /local/domain/5/x|n6|r99|', 'SET_PERMS OK|'],
      ['dom0', 'GET_PERMS /local/domain/5/x|', 'GET_PERMS n6|r99|'],
    ],
  ],
  [
    'a stub domain has the rights of its target',
    [
      ['dom0', 'WRITE /local/domain/6/secret|v', 'WRITE OK|'],
      ['dom0', 'SET_PERMS /local/domain/6/secret|n6|', 'SET_PERMS OK|'],
      ['dom5', 'READ /local/domain/6/secret|', 'ERROR EACCES|'],
      ['dom0', 'SET_TARGET 5|6|', 'SET_TARGET OK|'],
      ['dom5', 'READ /local/domain/6/secret|', 'READ v'],
    ],
  ],
  [
    'a watch fires once at registration, then for its node and what is below',
    [
      ['dom0', 'WATCH /a/b|t|', 'WATCH OK|', 'WATCH_EVENT /a/b|t|'],
      ['dom0', 'WATCH /a/b|t|', 'ERROR EEXIST|'],
      ['dom0b', 'WRITE /a/b/c|', 'WRITE OK|', 'dom0 WATCH_EVENT /a/b/c|t|'],
      ['dom0b', 'WRITE /a/bc|', 'WRITE OK|'],
      ['dom0b', 'WRITE /a|', 'WRITE OK|'],
      ['dom0', 'UNWATCH /a/b|other|', 'ERROR ENOENT|'],
      ['dom0', 'UNWATCH /a/b|t|', 'UNWATCH OK|'],
      ['dom0b', 'WRITE /a/b/c|', 'WRITE OK|'],
    ],
  ],
  [
    'a client’s own event precedes the reply',
    [
      ['dom0', 'WATCH /a|t|', 'WATCH OK|', 'WATCH_EVENT /a|t|'],
      ['dom0', 'WRITE /a|', 'WATCH_EVENT /a|t|', 'WRITE OK|'],
      ['dom0', 'SET_PERMS /a|r0|', 'WATCH_EVENT /a|t|', 'SET_PERMS OK|'],
      ['dom0', 'MKDIR /a|', 'MKDIR OK|'],
      ['dom0', 'RM /a|', 'WATCH_EVENT /a|t|', 'RM OK|'],
      ['dom0', 'RM /a|', 'RM OK|'],
    ],
  ],
  [
    'events of one change come in the order in which the watches were set',
    [
      ['dom0', 'WATCH /a/b|1|', 'WATCH OK|', 'WATCH_EVENT /a/b|1|'],
      ['dom0', 'WATCH /|2|', 'WATCH OK|', 'WATCH_EVENT /|2|'],
      ['dom0', 'WATCH /a|3|', 'WATCH OK|', 'WATCH_EVENT /a|3|'],
      ['dom0', 'WRITE /a/b|', 'WATCH_EVENT /a/b|1|', 'WATCH_EVENT /a/b|2|', 'WATCH_EVENT /a/b|3|', 'WRITE OK|'],
    ],
  ],
  [
    'an event equal to one that still waits is not repeated',
    [
      ['dom0', 'WATCH /a|t|', 'WATCH OK|', 'WATCH_EVENT /a|t|'],
      ['dom0', 'WATCH /|t|', 'WATCH OK|', 'WATCH_EVENT /|t|'],
      ['dom0', 'WRITE /a|', 'WATCH_EVENT /a|t|', 'WRITE OK|'],
    ],
  ],
  [
    'a relative watch gets relative paths',
    [
      ['dom5', 'WATCH x|t|', 'WATCH OK|', 'WATCH_EVENT x|t|'],
      ['dom0', 'WRITE /local/domain/5/x/y|', 'WRITE OK|', 'dom5 WATCH_EVENT x/y|t|'],
      ['dom5', 'UNWATCH /local/domain/5/x|t|', 'UNWATCH OK|'],
    ],
  ],
  [
    'removing a subtree tells the watches on each node, leaves first, and those above the top',
    [
      ['dom0', 'WRITE /a/b/c|', 'WRITE OK|'],
      ['dom0', 'WATCH /a/b/c|1|', 'WATCH OK|', 'WATCH_EVENT /a/b/c|1|'],
      ['dom0', 'WATCH /a/b|2|', 'WATCH OK|', 'WATCH_EVENT /a/b|2|'],
      ['dom0', 'WATCH /a/b/none|3|', 'WATCH OK|', 'WATCH_EVENT /a/b/none|3|'],
      ['dom0', 'WATCH /a|4|', 'WATCH OK|', 'WATCH_EVENT /a|4|'],
      ['dom0', 'RM /a/b|', 'WATCH_EVENT /a/b/c|1|', 'WATCH_EVENT /a/b|2|', 'WATCH_EVENT /a/b|4|', 'RM OK|'],
    ],
  ],
  [
    'a domain hears only of nodes that it may read, whose parent it may read, or that it could read before',
    [
      ['dom5', 'WATCH /local/domain/6|t|', 'WATCH OK|', 'WATCH_EVENT /local/domain/6|t|'],
      ['dom5', 'WATCH /tool|t|', 'WATCH OK|', 'WATCH_EVENT /tool|t|'],
      ['dom0', 'WRITE /tool/x|', 'WRITE OK|'],
      ['dom0', 'WRITE /local/domain/6/x|', 'WRITE OK|', 'dom5 WATCH_EVENT /local/domain/6/x|t|'],
      ['dom0', 'SET_PERMS /local/domain/6|n6|', 'SET_PERMS OK|', 'dom5 WATCH_EVENT /local/domain/6|t|'],
      ['dom0', 'WRITE /local/domain/6|', 'WRITE OK|'],
    ],
  ],
  [
    'a transaction sees its own changes; others see them when it ends',
    [
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'WATCH /a|t|', 'WATCH OK|', 'WATCH_EVENT /a|t|'],
      ['dom0', 'WRITE@1 /a/b|v', 'WRITE OK|'],
      ['dom0', 'READ@1 /a/b|', 'READ v'],
      ['dom0', 'DIRECTORY@1 /a|', 'DIRECTORY b|'],
      ['dom0', 'READ /a/b|', 'ERROR ENOENT|'],
      ['dom0', 'TRANSACTION_END@1 T|', 'WATCH_EVENT /a/b|t|', 'TRANSACTION_END OK|'],
      ['dom0', 'READ /a/b|', 'READ v'],
      ['dom0', 'READ@1 /a/b|', 'ERROR ENOENT|'],
    ],
  ],
  [
    'an aborted transaction leaves no trace',
    [
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'RM@1 /tool|', 'RM OK|'],
      ['dom0', 'TRANSACTION_END@1 F|', 'TRANSACTION_END OK|'],
      ['dom0', 'DIRECTORY /tool|', 'DIRECTORY xenstored|'],
    ],
  ],
  [
    'a node that was read and then changed outside fails the transaction, even a reading one',
    [
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'READ@1 /tool|', 'READ '],
      ['dom0', 'WRITE /tool|', 'WRITE OK|'],
      ['dom0', 'TRANSACTION_END@1 T|', 'ERROR EAGAIN|'],
      ['dom0', 'TRANSACTION_END@1 T|', 'ERROR ENOENT|'],
    ],
  ],
  [
    'two transactions that create different children of one node conflict',
    [
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 2|'],
      ['dom0', 'WRITE@1 /tool/a|', 'WRITE OK|'],
      ['dom0', 'WRITE@2 /tool/b|', 'WRITE OK|'],
      ['dom0', 'TRANSACTION_END@1 T|', 'TRANSACTION_END OK|'],
      ['dom0', 'TRANSACTION_END@2 T|', 'ERROR EAGAIN|'],
    ],
  ],
  [
    'a failed look-up is an access, too',
    [
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'READ@1 /tool/none|', 'ERROR ENOENT|'],
      ['dom0', 'WRITE /tool/none|', 'WRITE OK|'],
      ['dom0', 'TRANSACTION_END@1 T|', 'ERROR EAGAIN|'],
    ],
  ],
  [
    'a transaction keeps seeing a node as it was at the first access',
    [
      ['dom0', 'WRITE /a|1', 'WRITE OK|'],
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'READ@1 /a|', 'READ 1'],
      ['dom0', 'WRITE /a|2', 'WRITE OK|'],
      ['dom0', 'WRITE /a/new|', 'WRITE OK|'],
      ['dom0', 'READ@1 /a|', 'READ 1'],
      ['dom0', 'DIRECTORY@1 /a|', 'DIRECTORY '],
    ],
  ],
  [
    'a transaction that removes and rebuilds a subtree leaves only the new one',
    [
      ['dom0', 'WRITE /a/old|', 'WRITE OK|'],
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'RM@1 /a|', 'RM OK|'],
      ['dom0', 'WRITE@1 /a/new|v', 'WRITE OK|'],
      ['dom0', 'DIRECTORY@1 /a|', 'DIRECTORY new|'],
      ['dom0', 'TRANSACTION_END@1 T|', 'TRANSACTION_END OK|'],
      ['dom0', 'DIRECTORY /a|', 'DIRECTORY new|'],
      ['dom0', 'READ /a/old|', 'ERROR ENOENT|'],
      ['dom0', 'READ /a/new|', 'READ v'],
    ],
  ],
  [
    'one event per node and transaction, none for a node made and removed in it',
    [
      ['dom0', 'WATCH /|t|', 'WATCH OK|', 'WATCH_EVENT /|t|'],
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'WRITE@1 /tool|1', 'WRITE OK|'],
      ['dom0', 'WRITE@1 /tool|2', 'WRITE OK|'],
      ['dom0', 'WRITE@1 /gone|', 'WRITE OK|'],
      ['dom0', 'RM@1 /gone|', 'RM OK|'],
      ['dom0', 'TRANSACTION_END@1 T|', 'WATCH_EVENT /tool|t|', 'TRANSACTION_END OK|'],
    ],
  ],
  [
    'transactions do not nest, and an unknown one is refused',
    [
      ['dom0', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom0', 'TRANSACTION_START@1 |', 'ERROR EBUSY|'],
      ['dom0', 'READ@9 /|', 'ERROR ENOENT|'],
      ['dom0b', 'READ@1 /|', 'ERROR ENOENT|'],
      ['dom0', 'TRANSACTION_END T|', 'ERROR ENOENT|'],
      ['dom0', 'TRANSACTION_END@1 X|', 'ERROR EINVAL|'],
      ['dom0', 'TRANSACTION_END@1 F|', 'TRANSACTION_END OK|'],
    ],
  ],
  [
    'RESET_WATCHES drops watches and transactions, also inside one',
    [
      ['dom5', 'WATCH x|t|', 'WATCH OK|', 'WATCH_EVENT x|t|'],
      ['dom5', 'TRANSACTION_START |', 'TRANSACTION_START 1|'],
      ['dom5', 'RESET_WATCHES@1 |', 'RESET_WATCHES OK|'],
      ['dom5', 'READ@1 x|', 'ERROR ENOENT|'],
      ['dom0', 'WRITE /local/domain/5/x|', 'WRITE OK|'],
    ],
  ],
  [
    'a released domain loses its nodes and is announced; its number gives a successor nothing',
    [
      ['dom0', 'WATCH @releaseDomain|t|', 'WATCH OK|', 'WATCH_EVENT @releaseDomain|t|'],
      ['dom0', 'WATCH @introduceDomain|t|', 'WATCH OK|', 'WATCH_EVENT @introduceDomain|t|'],
      ['dom0', 'WRITE /for5|v', 'WRITE OK|'],
      ['dom0', 'SET_PERMS /for5|n0|r5|', 'SET_PERMS OK|'],
      ['dom5', 'WRITE x|', 'WRITE OK|'],
      ['dom0', 'RELEASE 5|', 'WATCH_EVENT @releaseDomain|t|', 'RELEASE OK|'],
      ['dom0', 'READ /local/domain/5|', 'ERROR ENOENT|'],
      ['dom0', 'IS_DOMAIN_INTRODUCED 5|', 'IS_DOMAIN_INTRODUCED F|'],
      ['dom0', 'INTRODUCE 5|1|1|', 'WATCH_EVENT @introduceDomain|t|', 'INTRODUCE OK|'],
      ['dom5b', 'READ /for5|', 'ERROR EACCES|'],
      ['dom0', 'GET_PERMS /for5|', 'GET_PERMS n0|r5|'],
    ],
  ],
  [
    'nodes of a dying domain are announced to those who watch them',
    [
      ['dom5', 'WRITE x|', 'WRITE OK|'],
      ['dom0', 'WATCH /local/domain/5/x|t|', 'WATCH OK|', 'WATCH_EVENT /local/domain/5/x|t|'],
      ['dom0', 'RELEASE 5|', 'WATCH_EVENT /local/domain/5/x|t|', 'RELEASE OK|'],
    ],
  ],
  [
    'questions about domains are answered',
    [
      ['dom5', 'GET_DOMAIN_PATH 5|', 'GET_DOMAIN_PATH /local/domain/5|'],
      ['dom0', 'IS_DOMAIN_INTRODUCED 5|', 'IS_DOMAIN_INTRODUCED T|'],
      ['dom0', 'IS_DOMAIN_INTRODUCED 99|', 'IS_DOMAIN_INTRODUCED F|'],
      ['dom0', 'IS_DOMAIN_INTRODUCED 32752|', 'IS_DOMAIN_INTRODUCED T|'],
      ['dom0', 'RELEASE 0|', 'ERROR EINVAL|'],
      ['dom0', 'RELEASE 99|', 'ERROR ENOENT|'],
      ['dom0', 'RESUME 99|', 'ERROR ENOENT|'],
      ['dom0', 'INTRODUCE 9|1|0|', 'ERROR EINVAL|'],
      ['dom0', 'SET_TARGET 5|99|', 'ERROR ENOENT|'],
    ],
  ],
  [
    'special names are watched with permissions of their own',
    [
      ['dom5', 'WATCH @releaseDomain|t|', 'WATCH OK|', 'WATCH_EVENT @releaseDomain|t|'],
      ['dom0', 'RELEASE 7|', 'RELEASE OK|'],
      ['dom0', 'SET_PERMS @releaseDomain|n0|r5|', 'SET_PERMS OK|'],
      ['dom0', 'RELEASE 6|', 'RELEASE OK|', 'dom5 WATCH_EVENT @releaseDomain|t|'],
      ['dom0', 'SET_PERMS @none|n0|', 'ERROR EINVAL|'],
    ],
  ],
  [
    'CONTROL answers as xenstored does',
    [
      ['dom0', 'CONTROL check|', 'CONTROL OK|'],
      ['dom0', 'CONTROL print|hello|', 'CONTROL OK|'],
      ['dom0', 'CONTROL none|', 'ERROR EINVAL|'],
      ['dom0', 'CONTROL toString|', 'ERROR EINVAL|'],
      ['dom0', 'CONTROL ', 'ERROR EINVAL|'],
      ['dom0', 'CONTROL quota|99|', 'ERROR ENOENT|'],
      ['dom0', 'CONTROL quota|set|nodes|0|', 'ERROR EINVAL|'],
    ],
  ],
];

describe('the engine, asked as by one client after the other:', () => {
  it.each(CASES)('%s', (_name, steps) => {
    const conversation = new Conversation().introduce(5, 6, 7);
    for (const [who, request, ...expected] of [...HOMES, ...steps]) {
      expect([request, ...conversation.ask(who, request)]).toEqual([request, ...expected]);
    }
  });
});

describe('the engine', () => {
  it('echoes request and transaction ids, and gives events zeros', () => {
    const conversation = new Conversation();
    const { connection, received } = conversation.client('dom0');
    const request = Buffer.from('02000000efbeadde0000000002000000 2f00'.replace(' ', ''), 'hex');
    connection.push(request);
    expect(Buffer.concat(received).toString('hex')).toBe('02000000efbeadde0000000000000000');
  });

  it('answers everything of one chunk in one piece, and tells each watcher in one piece', () => {
    const conversation = new Conversation();
    conversation.ask('dom0', 'WATCH /a|t|');
    const writer = conversation.client('dom0b');
    const chunk = Buffer.concat([1, 2, 3].map((n) => encode(`WRITE /a/${n}|`)));
    conversation.client('dom0').received.length = 0;
    writer.connection.push(chunk);
    expect(writer.received.length).toBe(1);
    expect(conversation.client('dom0').received.length).toBe(1);
    expect(conversation.drain('dom0b')).toEqual([
      'WRITE OK|',
      'WRITE OK|',
      'WRITE OK|',
      'dom0 WATCH_EVENT /a/1|t|',
      'dom0 WATCH_EVENT /a/2|t|',
      'dom0 WATCH_EVENT /a/3|t|',
    ]);
  });

  it('closes the connection of a client that announces more than 4096 bytes, after its earlier replies', () => {
    const conversation = new Conversation();
    const client = conversation.client('dom0');
    const oversize = Buffer.from('0200000001000000000000000110000000', 'hex');
    client.connection.push(Buffer.concat([encode('READ /|'), oversize]));
    expect(conversation.drain('dom0')).toEqual(['READ ']);
    expect(client.closedByServer).toBe(true);
    client.connection.push(encode('READ /|'));
    expect(client.received).toEqual([]);
  });

  it('accepts exactly 4096 bytes', () => {
    const conversation = new Conversation();
    const value = 'x'.repeat(4096 - '/a|'.length);
    expect(conversation.ask('dom0', `WRITE /a|${value}`)).toEqual(['WRITE OK|']);
    expect(conversation.ask('dom0', 'READ /a|')).toEqual([`READ ${value}`]);
  });

  it('closes the connections of a released domain', () => {
    const conversation = new Conversation().introduce(5);
    const client = conversation.client('dom5');
    conversation.engine.releaseDomain(5);
    expect(client.closedByServer).toBe(true);
  });

  it('refuses a connection for a domain that is not introduced', () => {
    const conversation = new Conversation();
    expect(() => conversation.client('dom5')).toThrow('domain 5 is not introduced');
  });

  it('lists a directory of any size in parts that fit', () => {
    const conversation = new Conversation();
    const names = Array.from({ length: 1000 }, (_, n) => `child-${n}`);
    for (const name of names) conversation.ask('dom0', `MKDIR /d/${name}|`);
    expect(conversation.ask('dom0', 'DIRECTORY /d|')).toEqual(['ERROR E2BIG|']);
    let listing = '';
    let generation: string | undefined;
    while (!listing.endsWith('||')) {
      const [reply = ''] = conversation.ask('dom0', `DIRECTORY_PART /d|${listing.length}|`);
      const [, thisGeneration, part = ''] = /^DIRECTORY_PART (\d+)\|(.*)$/.exec(reply) ?? [];
      expect(reply.length).toBeLessThanOrEqual('DIRECTORY_PART '.length + 4096);
      generation ??= thisGeneration;
      expect(thisGeneration).toBe(generation);
      listing += part;
    }
    expect(listing.slice(0, -2).split('|')).toEqual(names);
  });

  it('tells of a shutdown once until the domain is resumed', () => {
    const conversation = new Conversation().introduce(5);
    conversation.ask('dom0', 'WATCH @releaseDomain|t|');
    conversation.engine.shutdownDomain(5);
    conversation.engine.shutdownDomain(5);
    expect(conversation.drain('dom0')).toEqual(['WATCH_EVENT @releaseDomain|t|']);
    conversation.ask('dom0', 'RESUME 5|');
    conversation.engine.shutdownDomain(5);
    expect(conversation.drain('dom0')).toEqual(['WATCH_EVENT @releaseDomain|t|']);
  });

  it('gives up a client’s watches and transactions when it goes', () => {
    const conversation = new Conversation().introduce(5);
    conversation.ask('dom5', 'WATCH x|t|');
    conversation.ask('dom5', 'TRANSACTION_START |');
    conversation.client('dom5').connection.close();
    const [report = ''] = conversation.ask('dom0', 'CONTROL quota|5|');
    expect(report).toMatch(/watches +: +0\n/);
    expect(report).toMatch(/transactions +: +0\n/);
  });

  it('does not recurse when a receiver answers at once', () => {
    const conversation = new Conversation();
    let left = 20_000;
    const connection = conversation.engine.connect(
      0,
      () => {
        if (left-- > 0) connection.push(encode('READ /|'));
      },
      () => {},
    );
    connection.push(encode('READ /|'));
    expect(left).toBe(-1);
  });
});

describe('quotas of a domain', () => {
  const guest = () => {
    const conversation = new Conversation().introduce(5);
    for (const request of ['MKDIR /local/domain/5|', 'SET_PERMS /local/domain/5|n5|'])
      conversation.ask('dom0', request);
    return conversation;
  };
  /** How many of the requests succeed before the first that does not, and its reply. */
  const untilRefused = (conversation: Conversation, request: (n: number) => string): [count: number, reply: string] => {
    for (let n = 0; n < 3000; n++) {
      const [reply = ''] = conversation.ask('dom5', request(n));
      if (reply.startsWith('ERROR')) return [n, reply];
    }
    return [3000, ''];
  };

  it('are 1000 nodes, 129 watches and 11 transactions, over all its connections', () => {
    // The C daemon of 4.17 compares with >, so that one more than the limit is allowed.
    expect(untilRefused(guest(), (n) => `WRITE d${n % 7}/${n}|`)).toEqual([992, 'ERROR ENOSPC|']);
    expect(untilRefused(guest(), (n) => `WATCH x|${n}|`)).toEqual([129, 'ERROR E2BIG|']);
    const conversation = guest();
    expect(untilRefused(conversation, () => 'TRANSACTION_START |')).toEqual([11, 'ERROR ENOSPC|']);
    expect(conversation.ask('dom5b', 'TRANSACTION_START |')).toEqual(['ERROR ENOSPC|']);
  });

  it('are 2047 bytes per node with permissions and child names', () => {
    const conversation = guest();
    expect(conversation.ask('dom5', `WRITE x|${'v'.repeat(2015)}`)).toEqual(['WRITE OK|']);
    expect(conversation.ask('dom5', `WRITE x|${'v'.repeat(2016)}`)).toEqual(['ERROR ENOSPC|']);
    expect(conversation.ask('dom5', 'WRITE x/y|')).toEqual(['ERROR ENOSPC|']);
    expect(conversation.ask('dom5', 'DIRECTORY x|')).toEqual(['DIRECTORY ']);
  });

  it('are 5 permissions per node and 2048 bytes of path below the domain’s home', () => {
    const conversation = guest();
    conversation.ask('dom5', 'WRITE x|');
    expect(conversation.ask('dom5', 'SET_PERMS x|n5|r0|r1|r2|r3|r4|')).toEqual(['ERROR ENOSPC|']);
    expect(conversation.ask('dom5', 'SET_PERMS x|n5|r0|r1|r2|r3|')).toEqual(['SET_PERMS OK|']);
    expect(conversation.ask('dom5', `WATCH ${'p'.repeat(2049)}|t|`)).toEqual(['ERROR EINVAL|']);
    expect(conversation.ask('dom5', `WATCH ${'p'.repeat(2048)}|t|`)[0]).toEqual('WATCH OK|');
  });

  it('are 1024 nodes per transaction, which then can only fail', () => {
    const conversation = guest();
    conversation.ask('dom5', 'TRANSACTION_START |');
    const [, reply] = untilRefused(conversation, (n) => `MKDIR@1 a${n}|`);
    expect(reply).toBe('ERROR ENOSPC|');
    expect(conversation.ask('dom5', 'TRANSACTION_END@1 T|')).toEqual(['ERROR ENOMEM|']);
  });

  it('can be raised by dom0', () => {
    const conversation = guest();
    conversation.ask('dom0', 'CONTROL quota|set|watches|200|');
    expect(untilRefused(conversation, (n) => `WATCH x|${n}|`)).toEqual([201, 'ERROR E2BIG|']);
  });
});

function encode(request: string): Buffer {
  return encodeRequest(request);
}

const CASES_422: ReadonlyArray<readonly [name: string, steps: readonly Step[]]> = [
  [
    'features and quotas can be asked for and set',
    [
      ['dom0', 'GET_FEATURE ', 'GET_FEATURE 14|'],
      ['dom5', 'GET_FEATURE ', 'GET_FEATURE 14|'],
      ['dom5', 'GET_FEATURE 5|', 'ERROR EACCES|'],
      ['dom0', 'SET_FEATURE 5|4|', 'ERROR EBUSY|'],
      ['dom0', 'GET_QUOTA watches|', 'GET_QUOTA 128|'],
      ['dom0', 'SET_QUOTA 5|watches|2|', 'SET_QUOTA OK|'],
      ['dom0', 'GET_QUOTA 5|watches|', 'GET_QUOTA 2|'],
      ['dom0', 'GET_QUOTA none|', 'ERROR EINVAL|'],
      ['dom5', 'WATCH a|t|', 'WATCH OK|', 'WATCH_EVENT a|t|'],
      ['dom5', 'WATCH b|t|', 'ERROR ENOSPC|'],
      ['dom0', 'GET_QUOTA 5|soft-memory|', 'GET_QUOTA 2097152|'],
      ['dom0', 'SET_QUOTA 5|soft-memory|100|', 'SET_QUOTA OK|'],
      ['dom0', 'GET_QUOTA 5|soft-memory|', 'GET_QUOTA 100|'],
      ['dom0', 'GET_QUOTA soft-memory|', 'GET_QUOTA 2097152|'],
      ['dom0', 'SET_QUOTA nodes|4294967295|', 'ERROR EINVAL|'],
      ['dom0', 'SET_QUOTA soft-nodes|1|', 'ERROR EINVAL|'],
    ],
  ],
  [
    'quotas for all are those of domains that are new',
    [
      ['dom0', 'SET_QUOTA watches|2|', 'SET_QUOTA OK|'],
      ['dom0', 'GET_QUOTA 5|watches|', 'GET_QUOTA 128|'],
      ['dom5', 'WATCH a|t|', 'WATCH OK|', 'WATCH_EVENT a|t|'],
      ['dom5', 'WATCH b|t|', 'WATCH OK|', 'WATCH_EVENT b|t|'],
      ['dom0', 'INTRODUCE 9|1|1|', 'INTRODUCE OK|'],
      ['dom0', 'GET_QUOTA 9|watches|', 'GET_QUOTA 2|'],
      ['dom9', 'WATCH a|t|', 'WATCH OK|', 'WATCH_EVENT a|t|'],
      ['dom9', 'WATCH b|t|', 'ERROR ENOSPC|'],
    ],
  ],
  [
    'what means a domain is a number up to 65535',
    [
      ['dom0', 'GET_DOMAIN_PATH 65536|', 'ERROR EINVAL|'],
      ['dom0', 'GET_DOMAIN_PATH 1x|', 'ERROR EINVAL|'],
      ['dom0', 'GET_DOMAIN_PATH 5|', 'GET_DOMAIN_PATH /local/domain/5|'],
      ['dom0', 'IS_DOMAIN_INTRODUCED x|', 'ERROR EINVAL|'],
      ['dom0', 'INTRODUCE x|1|1|', 'ERROR EINVAL|'],
      ['dom0', 'SET_TARGET a|5|', 'ERROR EINVAL|'],
      ['dom0', 'RELEASE -1|', 'ERROR EINVAL|'],
    ],
  ],
  [
    'special names are nodes: unknown ones are absent, and a change of permissions is told',
    [
      ['dom0', 'GET_PERMS @x|', 'ERROR ENOENT|'],
      ['dom0', 'SET_PERMS @x|n0|', 'ERROR ENOENT|'],
      ['dom0', 'UNWATCH /a.b|t|', 'ERROR EINVAL|'],
      ['dom5', 'WATCH @introduceDomain|t|', 'WATCH OK|', 'WATCH_EVENT @introduceDomain|t|'],
      ['dom0', 'SET_PERMS @introduceDomain|n0|r5|', 'SET_PERMS OK|', 'dom5 WATCH_EVENT @introduceDomain|t|'],
      ['dom0', 'SET_PERMS @introduceDomain|n0|', 'SET_PERMS OK|', 'dom5 WATCH_EVENT @introduceDomain|t|'],
      ['dom0', 'SET_PERMS @introduceDomain|n0|r6|', 'SET_PERMS OK|'],
    ],
  ],
  [
    'permissions do not name a domain that is gone',
    [
      ['dom0', 'WRITE /a|1', 'WRITE OK|'],
      ['dom0', 'SET_PERMS /a|n0|r5|w6|', 'SET_PERMS OK|'],
      ['dom0', 'RELEASE 6|', 'RELEASE OK|'],
      ['dom0', 'GET_PERMS /a|', 'GET_PERMS n0|r5|'],
    ],
  ],
  [
    'a watch may be limited in depth',
    [
      ['dom0', 'WATCH /a|t|1|', 'WATCH OK|', 'WATCH_EVENT /a|t|'],
      ['dom0', 'WRITE /a/b/c|', 'WRITE OK|'],
      ['dom0', 'WRITE /a/b|', 'WATCH_EVENT /a/b|t|', 'WRITE OK|'],
      ['dom0', 'WRITE /a|', 'WATCH_EVENT /a|t|', 'WRITE OK|'],
    ],
  ],
  [
    'every domain may watch the end of others, and be told which one it is',
    [
      ['dom5', 'WATCH @releaseDomain|t|', 'WATCH OK|', 'WATCH_EVENT @releaseDomain|t|'],
      ['dom0', 'WATCH @releaseDomain|t|1|', 'WATCH OK|', 'WATCH_EVENT @releaseDomain|t|'],
      ['dom0', 'RELEASE 6|', 'WATCH_EVENT @releaseDomain/6|t|', 'RELEASE OK|', 'dom5 WATCH_EVENT @releaseDomain|t|'],
      ['dom5', 'GET_PERMS @releaseDomain|', 'GET_PERMS n0|r32757|'],
    ],
  ],
];

describe('the engine, when it is like the xenstored of Xen 4.22:', () => {
  it.each(CASES_422)('%s', (_name, steps) => {
    const conversation = new Conversation({ like: 'xenstored' }).introduce(5, 6, 7);
    for (const [who, request, ...expected] of [...HOMES, ...steps]) {
      expect([request, ...conversation.ask(who, request)]).toEqual([request, ...expected]);
    }
  });
});

describe('the engine, when it is like oxenstored,', () => {
  it('sends a client’s own events after the reply, sorts children, and answers with its error names', () => {
    const conversation = new Conversation({ like: 'oxenstored' });
    for (const name of ['z', 'a']) conversation.ask('dom0', `WRITE /d/${name}|`);
    expect(conversation.ask('dom0', 'DIRECTORY /d|')).toEqual(['DIRECTORY a|z|']);
    conversation.ask('dom0', 'WATCH /d|t|');
    expect(conversation.ask('dom0', 'WRITE /d/a|')).toEqual(['WRITE OK|', 'WATCH_EVENT /d/a|t|']);
    expect(conversation.ask('dom0', 'READ@9 /d|')).toEqual(['ERROR EIO|']);
    expect(conversation.ask('dom0', 'DIRECTORY_PART /d|0|')).toEqual(['ERROR ENOSYS|']);
    conversation.ask('dom0', 'TRANSACTION_START |');
    conversation.ask('dom0', 'WRITE@1 /d/a|');
    expect(conversation.ask('dom0', 'TRANSACTION_END@1 T|')).toEqual(['WATCH_EVENT /d/a|t|', 'TRANSACTION_END OK|']);
    expect(conversation.ask('dom0', 'RM /|')[0]).toBe('RM OK|');
    expect(conversation.ask('dom0', 'DIRECTORY /|')).toEqual(['DIRECTORY ']);
  });
});
