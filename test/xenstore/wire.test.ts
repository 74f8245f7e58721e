import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isXenstoreError, MessageDecoder, XenstoreError } from '../../xenstore/index.js';
import { decodeHeader, encodeMessage, MAX_PAYLOAD_BYTES, type Message, Op } from '../../xenstore/wire.js';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

function message(type: number, requestId: number, transactionId: number, payload: string): Message {
  return { type, requestId, transactionId, payload: Buffer.from(payload, 'latin1') };
}

/** One table for both directions: xen:xen/include/public/io/xs_wire.h, little-endian. */
const CASES: ReadonlyArray<[name: string, bytes: Buffer, message: Message]> = [
  ['an empty READ answer', hex('02000000 01000000 00000000 00000000'), message(Op.Read, 1, 0, '')],
  ['a READ request', hex('02000000 07000000 00000000 03000000 2f6100'), message(Op.Read, 7, 0, '/a\0')],
  [
    'a WRITE in a transaction with a NUL in its value',
    hex('0b000000 ff000000 05000000 06000000 2f6100 780079'),
    message(Op.Write, 255, 5, '/a\0x\0y'),
  ],
  ['an ERROR answer', hex('10000000 02000000 00000000 07000000 454e4f454e5400'), message(Op.Error, 2, 0, 'ENOENT\0')],
  ['a watch event', hex('0f000000 00000000 00000000 06000000 2f6100 773100'), message(Op.WatchEvent, 0, 0, '/a\0w1\0')],
  [
    'the highest ids',
    hex('06000000 ffffffff ffffffff 01000000 00'),
    message(Op.TransactionStart, 0xffffffff, 0xffffffff, '\0'),
  ],
];

function decodeAll(chunks: readonly Buffer[]): Message[] {
  const decoder = new MessageDecoder();
  const messages: Message[] = [];
  for (const chunk of chunks) decoder.push(chunk, (one) => messages.push(one));
  expect(decoder.pendingBytes).toBe(0);
  return messages;
}

function splitAt(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const sorted = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...sorted].map((from, i) => bytes.subarray(from, sorted[i] ?? bytes.length));
}

const splitEach = (bytes: Buffer): Buffer[] => [...bytes].map((byte) => Buffer.from([byte]));

describe.each(CASES)('%s', (_name, bytes, expected) => {
  it('is encoded to its bytes', () => {
    const { type, requestId, transactionId, payload } = expected;
    expect(encodeMessage(type, requestId, transactionId, payload)).toEqual(bytes);
  });
  it('is decoded in one piece', () => expect(decodeAll([bytes])).toEqual([expected]));
  it('is decoded byte by byte', () => expect(decodeAll(splitEach(bytes))).toEqual([expected]));
  it('is decoded when the next message follows at once', () => {
    expect(decodeAll([Buffer.concat([bytes, bytes])])).toEqual([expected, expected]);
  });
  it('is decoded when the beginning of the next message follows', () => {
    const decoder = new MessageDecoder();
    const messages: Message[] = [];
    decoder.push(Buffer.concat([bytes, bytes.subarray(0, 5)]), (one) => messages.push(one));
    expect(messages).toEqual([expected]);
    expect(decoder.pendingBytes).toBe(5);
    decoder.push(bytes.subarray(5), (one) => messages.push(one));
    expect(messages).toEqual([expected, expected]);
  });
});

describe('decodeHeader', () => {
  it('reads at an offset', () => {
    const bytes = Buffer.concat([Buffer.from('junk'), hex('02000000 01000000 03000000 04000000')]);
    expect(decodeHeader(bytes, 4)).toEqual({ type: 2, requestId: 1, transactionId: 3, payloadBytes: 4 });
  });
});

describe('MessageDecoder', () => {
  const anyMessage = fc.record({
    type: fc.integer({ min: 0, max: 30 }),
    requestId: fc.integer({ min: 0, max: 0xffffffff }),
    transactionId: fc.integer({ min: 0, max: 0xffffffff }),
    payload: fc
      .oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ minLength: 4000, maxLength: MAX_PAYLOAD_BYTES }))
      .map((bytes) => Buffer.from(bytes)),
  });

  it('decodes any split of any sequence of messages to the same messages', () => {
    fc.assert(
      fc.property(fc.array(anyMessage, { maxLength: 8 }), fc.array(fc.nat(40_000), { maxLength: 20 }), (all, cuts) => {
        const bytes = Buffer.concat(all.map((m) => encodeMessage(m.type, m.requestId, m.transactionId, m.payload)));
        expect(decodeAll(splitAt(bytes, cuts))).toEqual(all);
      }),
      { numRuns: 300 },
    );
  });

  it('gives payloads that later chunks do not change', () => {
    const decoder = new MessageDecoder();
    const payloads: Buffer[] = [];
    const first = encodeMessage(Op.Read, 1, 0, Buffer.from('first'));
    decoder.push(first.subarray(0, 18), (m) => payloads.push(m.payload));
    decoder.push(first.subarray(18), (m) => payloads.push(m.payload));
    decoder.push(encodeMessage(Op.Read, 2, 0, Buffer.from('other')), (m) => payloads.push(m.payload));
    expect(payloads.map(String)).toEqual(['first', 'other']);
  });

  it('does not keep a reference to a chunk that ends in an unfinished message', () => {
    const decoder = new MessageDecoder();
    const chunk = encodeMessage(Op.Read, 1, 0, Buffer.from('value'));
    const cut = chunk.subarray(0, 19);
    decoder.push(cut, () => {});
    cut.fill(0xee);
    const payloads: string[] = [];
    decoder.push(Buffer.from('ue'), (m) => payloads.push(m.payload.toString()));
    expect(payloads).toEqual(['value']);
  });

  it('accepts 4096 bytes of payload and refuses 4097 as soon as the header is there', () => {
    expect(decodeAll([encodeMessage(Op.Read, 1, 0, Buffer.alloc(4096))])).toHaveLength(1);
    const header = hex('02000000 01000000 00000000 01100000');
    expect(() => new MessageDecoder().push(header, () => {})).toThrow(
      new XenstoreError('protocol', 'xenstore message of 4097 bytes, limit 4096'),
    );
  });

  it.each([
    ['in one chunk', [16]],
    ['when the header comes in pieces', [3, 9, 12]],
    ['when only the last header byte is late', [15]],
  ])('refuses an over-long message %s', (_name, cuts) => {
    const decoder = new MessageDecoder();
    const header = hex('02000000 01000000 00000000 ffffffff');
    const pushAll = (): void => {
      for (const chunk of splitAt(header, cuts)) decoder.push(chunk, () => {});
    };
    expect(pushAll).toThrow(/4294967295 bytes, limit 4096/);
  });

  it('delivers what came before an over-long message', () => {
    const messages: Message[] = [];
    const bytes = Buffer.concat([
      encodeMessage(Op.Read, 1, 0, Buffer.from('x')),
      hex('02000000 00000000 00000000 01100000'),
    ]);
    expect(() => new MessageDecoder().push(bytes, (one) => messages.push(one))).toThrow(/limit 4096/);
    expect(messages).toHaveLength(1);
  });

  it('can allow more for one type', () => {
    const decoder = new MessageDecoder((type) => (type === Op.Directory ? 8192 : 4096));
    const lengths: number[] = [];
    decoder.push(encodeMessage(Op.Directory, 1, 0, Buffer.alloc(8192)), (m) => lengths.push(m.payload.length));
    expect(lengths).toEqual([8192]);
    expect(() => decoder.push(encodeMessage(Op.Read, 1, 0, Buffer.alloc(4097)), () => {})).toThrow(/limit 4096/);
  });
});

describe('isXenstoreError', () => {
  it('tells the codes apart', () => {
    const error = new XenstoreError('ENOENT', 'no such node', { path: '/a' });
    expect(isXenstoreError(error)).toBe(true);
    expect(isXenstoreError(error, 'EACCES', 'ENOENT')).toBe(true);
    expect(isXenstoreError(error, 'EACCES')).toBe(false);
    expect(isXenstoreError(new Error('ENOENT'))).toBe(false);
    expect(error).toMatchObject({ code: 'ENOENT', path: '/a', message: 'no such node' });
  });
});
