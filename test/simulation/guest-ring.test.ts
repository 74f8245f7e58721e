import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BackendRing, IN_BYTES, OUT_BYTES, WORD } from '../../src/console/ring.js';
import { GuestPage } from '../../src/hypervisor/guest-page.js';
import { GuestRing, ILLEGAL } from '../../src/simulation/guest-ring.js';

/** Both ends of one page whose counters stand at `start`. */
function ends(start = 0) {
  const page = new GuestPage();
  for (const word of Object.values(WORD)) page.words[word] = start | 0;
  return { page, guest: new GuestRing(page), backend: new BackendRing(page) };
}

const step = fc.record({
  do: fc.constantFrom('guest writes', 'backend reads', 'backend writes', 'guest reads'),
  bytes: fc.integer({ min: 1, max: 3000 }),
});
const anyStart = fc.oneof(fc.constant(0), fc.integer({ min: 0xffff_f000, max: 0xffff_ffff }), fc.nat());

describe('GuestRing and BackendRing', () => {
  it('carry the same bytes both ways, whatever the order of steps and wherever the counters stand', () => {
    fc.assert(
      fc.property(anyStart, fc.array(step, { maxLength: 60 }), (start, steps) => {
        const { guest, backend } = ends(start);
        let [out, down] = [0, 0];
        const sent = { out: [] as number[], in: [] as number[] };
        const got = { out: [] as number[], in: [] as number[] };
        for (const { do: what, bytes } of steps) {
          if (what === 'guest writes') {
            const source = Uint8Array.from({ length: bytes }, (_, i) => (out + i) * 7);
            const count = guest.writeOut(source, 0) as number;
            out += count;
            sent.out.push(...source.subarray(0, count));
          } else if (what === 'backend writes') {
            const source = Uint8Array.from({ length: bytes }, (_, i) => (down + i) * 11);
            const count = backend.writeIn(source);
            down += count;
            sent.in.push(...source.subarray(0, count));
          } else if (what === 'backend reads') {
            const target = new Uint8Array(bytes);
            const count = backend.peekOut(target, 0);
            backend.publishConsumed(count);
            got.out.push(...target.subarray(0, count));
          } else {
            const target = new Uint8Array(bytes);
            const count = guest.peekIn(target) as number;
            guest.consumeIn(count);
            got.in.push(...target.subarray(0, count));
          }
          expect(guest.outUsed).toBe(sent.out.length - got.out.length);
          expect(backend.inSpace()).toBe(IN_BYTES - (sent.in.length - got.in.length));
        }
        expect(got.out).toEqual(sent.out.slice(0, got.out.length));
        expect(got.in).toEqual(sent.in.slice(0, got.in.length));
        expect([guest.illegalIndices, backend.illegalIndices]).toEqual([0, 0]);
      }),
      { numRuns: 200 },
    );
  });

  it('take no more than a ring holds', () => {
    const { guest, backend } = ends(0xffff_ff00);
    expect(guest.writeOut(new Uint8Array(5000), 0)).toBe(OUT_BYTES);
    expect(guest.writeOut(new Uint8Array(1), 0)).toBe(0);
    expect(backend.writeIn(new Uint8Array(5000))).toBe(IN_BYTES);
    expect(backend.writeIn(new Uint8Array(1))).toBe(0);
  });

  it('touch nothing when the other side publishes an index that is impossible', () => {
    const { page, guest } = ends();
    page.words[WORD.outCons] = 1;
    page.words[WORD.inProd] = IN_BYTES + 1;
    expect([guest.writeOut(new Uint8Array(4), 0), guest.peekIn(new Uint8Array(4))]).toEqual([ILLEGAL, ILLEGAL]);
    expect([page.words[WORD.outProd], page.words[WORD.inCons], guest.illegalIndices]).toEqual([0, 0, 2]);
  });
});
