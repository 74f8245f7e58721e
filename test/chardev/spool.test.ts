import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type OverflowPolicy, Spool } from '../../src/chardev/spool.js';

const bytes = (text: string): Uint8Array => Buffer.from(text);

/** The same queue, as simply as it can be said. */
class Model {
  content: number[] = [];
  dropped = 0;
  constructor(
    readonly limit: number,
    readonly policy: OverflowPolicy,
  ) {}
  append(more: readonly number[]): void {
    const all = [...this.content, ...more];
    const excess = Math.max(0, all.length - this.limit);
    this.dropped += excess;
    this.content = this.policy === 'drop-oldest' ? all.slice(excess) : all.slice(0, this.limit);
  }
  prepend(older: readonly number[]): void {
    const newer = this.content;
    this.content = [];
    this.append(older);
    this.append(newer);
  }
}

describe('Spool', () => {
  it('gives the bytes back in order', () => {
    const spool = new Spool({ limitBytes: 16 });
    spool.append(bytes('one '));
    spool.append(bytes('two'));
    expect(spool.takeAll().toString()).toBe('one two');
    expect(spool.size).toBe(0);
  });

  it.each<[OverflowPolicy, string]>([
    ['drop-oldest', 'cdefghij'],
    ['drop-newest', 'abcdefgh'],
  ])('with %s keeps %s of ten bytes when eight fit, and counts two', (policy, kept) => {
    const spool = new Spool({ limitBytes: 8, policy });
    spool.append(bytes('abcde'));
    expect(spool.append(bytes('fghij'))).toBe(2);
    expect(spool.takeAll().toString()).toBe(kept);
    expect(spool.dropped).toBe(2);
  });

  it('puts returned bytes before the newer ones', () => {
    const spool = new Spool({ limitBytes: 16 });
    spool.append(bytes('later'));
    spool.prepend(bytes('first '));
    expect(spool.takeAll().toString()).toBe('first later');
  });

  it('never holds more storage than its limit while it is full, and little when it is empty', () => {
    const spool = new Spool({ limitBytes: 100_000 });
    for (let i = 0; i < 50; i++) spool.append(Buffer.alloc(4096, i));
    expect(spool.size).toBe(100_000);
    expect(spool.peek().buffer.byteLength).toBe(100_000);
    while (spool.size > 0) spool.consume(spool.peek().length);
    spool.append(bytes('x'));
    expect(spool.peek().buffer.byteLength).toBe(4096);
  });

  it('equals its model under any sequence of operations', () => {
    const operation = fc.oneof(
      fc.record({ kind: fc.constant('append' as const), data: fc.uint8Array({ maxLength: 40 }) }),
      fc.record({ kind: fc.constant('prepend' as const), data: fc.uint8Array({ maxLength: 12 }) }),
      fc.record({ kind: fc.constant('consume' as const), count: fc.nat(30) }),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 32 }),
        fc.constantFrom<OverflowPolicy>('drop-oldest', 'drop-newest'),
        fc.array(operation, { maxLength: 60 }),
        (limitBytes, policy, operations) => {
          const spool = new Spool({ limitBytes, policy });
          const model = new Model(limitBytes, policy);
          for (const step of operations) {
            if (step.kind === 'append') {
              spool.append(step.data);
              model.append([...step.data]);
            } else if (step.kind === 'prepend') {
              spool.prepend(step.data);
              model.prepend([...step.data]);
            } else {
              const piece = spool.peek(step.count);
              expect([...piece]).toEqual(model.content.slice(0, piece.length));
              model.content.splice(0, piece.length);
              spool.consume(piece.length);
            }
            expect(spool.size).toBe(model.content.length);
          }
          expect([...spool.takeAll()]).toEqual(model.content);
          expect(spool.dropped).toBe(model.dropped);
        },
      ),
    );
  });
});
