import { describe, expect, it } from 'vitest';
import { ChannelError } from '../../src/base/errors.js';
import { GuestPage } from '../../src/hypervisor/guest-page.js';
import type { BoundPort } from '../../src/hypervisor/ports.js';
import { SimulatedHypervisor } from '../../src/hypervisor/simulated.js';

const GUEST = 3;

function machine() {
  const hypervisor = new SimulatedHypervisor();
  hypervisor.createDomain(GUEST);
  const page = new GuestPage();
  const reference = hypervisor.grant(GUEST, 0, page);
  const port = hypervisor.allocUnbound(GUEST, 0);
  return { hypervisor, page, reference, port, backend: hypervisor.openBackend() };
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof ChannelError) return error.code;
    throw error;
  }
  return 'no error';
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('SimulatedHypervisor pages', () => {
  it('lets both sides see each other write', () => {
    const { page, reference, backend } = machine();
    const mapped = backend.grants.map(GUEST, reference);
    page.bytes[5] = 7;
    Atomics.store(mapped.words, 770, -2);
    expect(mapped.bytes[5]).toBe(7);
    expect(Atomics.load(page.words, 770)).toBe(-2);
  });

  it.each<[string, (m: ReturnType<typeof machine>) => unknown]>([
    ['an unused reference', ({ backend }) => backend.grants.map(GUEST, 999)],
    ['a page of a domain that does not exist', ({ backend, reference }) => backend.grants.map(99, reference)],
    [
      'a page lent to another domain',
      ({ hypervisor, reference }) => hypervisor.openBackend(5).grants.map(GUEST, reference),
    ],
    [
      'a revoked page',
      ({ hypervisor, backend, reference }) => {
        hypervisor.revoke(GUEST, reference);
        backend.grants.map(GUEST, reference);
      },
    ],
    [
      'a page of a dead domain',
      ({ hypervisor, backend, reference }) => {
        hypervisor.destroyDomain(GUEST);
        backend.grants.map(GUEST, reference);
      },
    ],
  ])('refuses to map %s', (_what, action) => {
    expect(codeOf(() => action(machine()))).toBe('grant-unmappable');
  });

  it('lets two backends map one page, as gntdev does', () => {
    const { hypervisor, reference, backend } = machine();
    const first = backend.grants.map(GUEST, reference);
    const second = hypervisor.openBackend().grants.map(GUEST, reference);
    first.release();
    second.bytes[0] = 9;
    expect(hypervisor.mappedPages()).toBe(1);
  });

  it('counts a kernel warning when the guest takes a mapped page back, and none when it is free', () => {
    const { hypervisor, page, reference, backend } = machine();
    const free = hypervisor.grant(GUEST, 0, page);
    backend.grants.map(GUEST, reference);
    expect(hypervisor.revoke(GUEST, free)).toBe(true);
    expect(hypervisor.revoke(GUEST, reference)).toBe(false);
    expect(hypervisor.guestWarnings(GUEST)).toBe(1);
  });

  it('keeps the contents but takes the views away when the last mapping is released', () => {
    const { page, reference, backend } = machine();
    const mapped = backend.grants.map(GUEST, reference);
    page.bytes[1] = 42;
    mapped.release();
    expect(page.bytes[1]).toBe(42);
    expect(() => Atomics.load(mapped.words, 0)).toThrow(TypeError);
  });

  it('keeps a destroyed domain as a zombie until its last page is unmapped, and its id taken', () => {
    const { hypervisor, reference, backend } = machine();
    const mapped = backend.grants.map(GUEST, reference);
    hypervisor.destroyDomain(GUEST);
    expect(hypervisor.zombies()).toEqual([GUEST]);
    expect(() => hypervisor.createDomain(GUEST)).toThrow('still in use');
    mapped.bytes[0] = 1; // a zombie's page is valid memory
    mapped.release();
    mapped.release();
    expect(hypervisor.zombies()).toEqual([]);
    hypervisor.createDomain(GUEST);
  });
});

describe('SimulatedHypervisor event channels', () => {
  it('delivers one event soon after binding, not inside bind', async () => {
    const { port, backend } = machine();
    let events = 0;
    backend.events.bind(GUEST, port, () => events++);
    expect(events).toBe(0);
    await nextTurn();
    expect(events).toBe(1);
  });

  it.each<[string, (m: ReturnType<typeof machine>) => unknown]>([
    ['an unallocated port', ({ backend }) => backend.events.bind(GUEST, 777, () => {})],
    [
      'a port kept for another domain',
      ({ hypervisor, port }) => hypervisor.openBackend(5).events.bind(GUEST, port, () => {}),
    ],
    [
      'a port that somebody serves',
      ({ hypervisor, backend, port }) => {
        backend.events.bind(GUEST, port, () => {});
        hypervisor.openBackend().events.bind(GUEST, port, () => {});
      },
    ],
    [
      'a port of a dead domain',
      ({ hypervisor, backend, port }) => {
        hypervisor.destroyDomain(GUEST);
        backend.events.bind(GUEST, port, () => {});
      },
    ],
  ])('refuses to bind %s', (_what, action) => {
    expect(codeOf(() => action(machine()))).toBe('port-unbindable');
  });

  it('holds events back until unmask and folds them into one', async () => {
    const { hypervisor, port, backend } = machine();
    let events = 0;
    const bound = backend.events.bind(GUEST, port, () => events++);
    await nextTurn();
    hypervisor.notify(GUEST, port);
    hypervisor.notify(GUEST, port);
    expect(events).toBe(1);
    bound.unmask();
    await nextTurn();
    expect(events).toBe(2);
    bound.unmask();
    await nextTurn();
    expect(events).toBe(2);
  });

  it('rings an unmasked backend by a direct call', async () => {
    const { hypervisor, port, backend } = machine();
    let events = 0;
    const bound = backend.events.bind(GUEST, port, () => events++);
    await nextTurn();
    bound.unmask();
    hypervisor.notify(GUEST, port);
    expect(events).toBe(2);
  });

  it('never enters onEvent from inside notify or from inside onEvent', async () => {
    const { hypervisor, port, backend } = machine();
    let depth = 0;
    let deepest = 0;
    let events = 0;
    hypervisor.onEvent(GUEST, port, () => hypervisor.notify(GUEST, port));
    const bound: BoundPort = backend.events.bind(GUEST, port, () => {
      deepest = Math.max(deepest, ++depth);
      if (++events < 200) bound.notify();
      bound.unmask();
      depth--;
    });
    await nextTurn();
    const before = events;
    depth++;
    bound.notify();
    depth--;
    expect(events).toBe(before);
    while (events < 200) await nextTurn();
    expect(deepest).toBe(1);
  });

  it('gives the event loop its turn when both sides ring for ever', async () => {
    const { hypervisor, port, backend } = machine();
    let events = 0;
    hypervisor.onEvent(GUEST, port, () => hypervisor.notify(GUEST, port));
    const bound = backend.events.bind(GUEST, port, () => {
      events++;
      bound.notify();
      bound.unmask();
    });
    await nextTurn();
    await nextTurn();
    expect(events).toBeGreaterThan(64);
    bound.close();
  });

  it('folds nested interrupts of the guest into one more round', () => {
    const { hypervisor, port, backend } = machine();
    const bound = backend.events.bind(GUEST, port, () => {});
    let depth = 0;
    let calls = 0;
    hypervisor.onEvent(GUEST, port, () => {
      expect(depth++).toBe(0);
      if (++calls < 5) bound.notify();
      depth--;
    });
    bound.notify();
    expect(calls).toBe(5);
  });

  it('leaves the port unbound for the next backend after close, and drops what the guest rings meanwhile', async () => {
    const { hypervisor, port, backend } = machine();
    let events = 0;
    const bound = backend.events.bind(GUEST, port, () => events++);
    bound.close();
    bound.close();
    hypervisor.notify(GUEST, port);
    await nextTurn();
    expect(events).toBe(0);
    hypervisor.openBackend().events.bind(GUEST, port, () => events++);
    await nextTurn();
    expect(events).toBe(1);
  });

  it('goes quiet when the guest closes its end', () => {
    const { hypervisor, port, backend } = machine();
    const bound = backend.events.bind(GUEST, port, () => {});
    let calls = 0;
    hypervisor.onEvent(GUEST, port, () => calls++);
    hypervisor.closePort(GUEST, port);
    bound.notify();
    expect(calls).toBe(0);
    expect(hypervisor.boundPorts()).toBe(1);
    bound.close();
    expect(hypervisor.boundPorts()).toBe(0);
  });
});

describe('a crashed backend', () => {
  it('loses every page and port at once; the next one serves the same ring', async () => {
    const { hypervisor, page, reference, port, backend } = machine();
    let dead = 0;
    const mapped = backend.grants.map(GUEST, reference);
    const bound = backend.events.bind(GUEST, port, () => dead++);
    backend.crash();
    expect([hypervisor.mappedPages(), hypervisor.boundPorts()]).toEqual([0, 0]);
    hypervisor.notify(GUEST, port);
    bound.notify();
    await nextTurn();
    expect(dead).toBe(0);
    expect(mapped.bytes.length).toBe(0);
    expect(codeOf(() => backend.grants.map(GUEST, reference))).toBe('grant-unmappable');
    const next = hypervisor.openBackend();
    next.grants.map(GUEST, reference).bytes[2] = 3;
    next.events.bind(GUEST, port, () => {});
    expect(page.bytes[2]).toBe(3);
  });

  it('lets a zombie rest', () => {
    const { hypervisor, reference, backend } = machine();
    backend.grants.map(GUEST, reference);
    hypervisor.destroyDomain(GUEST);
    backend.crash();
    expect(hypervisor.zombies()).toEqual([]);
  });
});
