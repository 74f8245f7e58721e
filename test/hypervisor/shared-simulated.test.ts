/** The hypervisor whose backends are other processes: here both sides are in one, as it makes no difference to files. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GuestPage } from '../../src/hypervisor/guest-page.js';
import type { Hypervisor } from '../../src/hypervisor/ports.js';
import { openSharedBackend, SharedHypervisor } from '../../src/hypervisor/shared-simulated.js';
import { until } from '../support/until.js';

let scratch: string;
let hypervisor: SharedHypervisor;
let backend: Hypervisor;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'xc-shared-'));
  hypervisor = new SharedHypervisor(scratch);
  hypervisor.createDomain(1);
  backend = openSharedBackend(scratch);
});

afterEach(() => {
  backend.close();
  if (hypervisor.isAlive(1)) hypervisor.destroyDomain(1);
  rmSync(scratch, { recursive: true, force: true });
});

describe('a shared page', () => {
  it('shows each side what the other writes, and keeps what was in it', () => {
    const page = new GuestPage();
    page.bytes[5] = 55;
    const mapped = backend.grants.map(1, hypervisor.grant(1, 0, page));
    expect(mapped.bytes[5]).toBe(55);
    mapped.bytes[6] = 66;
    Atomics.store(page.words, 700, -7);
    expect([page.bytes[6], Atomics.load(mapped.words, 700)]).toEqual([66, -7]);
  });

  it('cannot be mapped once it is revoked, or when it never was', () => {
    const reference = hypervisor.grant(1, 0, new GuestPage());
    hypervisor.revoke(1, reference);
    for (const bad of [reference, 0, 4_294_967_295]) {
      expect(() => backend.grants.map(1, bad)).toThrow(expect.objectContaining({ code: 'grant-unmappable' }));
    }
  });

  it('stays what it was for the guest when the backend lets it go', () => {
    const page = new GuestPage();
    const mapped = backend.grants.map(1, hypervisor.grant(1, 0, page));
    mapped.bytes[1] = 11;
    mapped.release();
    expect(page.bytes[1]).toBe(11);
  });
});

describe('a shared event channel', () => {
  it('raises one event when it is bound, then one for each ring after an unmask', async () => {
    const port = hypervisor.allocUnbound(1, 0);
    let events = 0;
    const bound = backend.events.bind(1, port, () => void events++);
    await until('the first event', () => events === 1);
    hypervisor.notify(1, port);
    hypervisor.notify(1, port);
    bound.unmask();
    await until('both rings as one event', () => events === 2);
    bound.unmask();
    hypervisor.notify(1, port);
    await until('the next one', () => events === 3);
  });

  it('rings the guest', async () => {
    const port = hypervisor.allocUnbound(1, 0);
    let rung = 0;
    hypervisor.onEvent(1, port, () => void rung++);
    backend.events.bind(1, port, () => {}).notify();
    await until('the guest hears it', () => rung > 0);
  });

  it('has one backend at a time, and another when that one has gone', () => {
    const port = hypervisor.allocUnbound(1, 0);
    const bound = backend.events.bind(1, port, () => {});
    const other = openSharedBackend(scratch);
    const refused = expect.objectContaining({
      code: 'port-unbindable',
      details: { domid: 1, remotePort: port, errno: 'EINVAL' },
    });
    expect(() => other.events.bind(1, port, () => {})).toThrow(refused);
    bound.close();
    other.events.bind(1, port, () => {}).close();
  });

  it('is refused when there is no such port or no such domain', () => {
    expect(() => backend.events.bind(1, 99, () => {})).toThrow(expect.objectContaining({ code: 'port-unbindable' }));
    expect(() => backend.events.bind(7, 8, () => {})).toThrow('ESRCH');
  });
});

it('leaves nothing of a domain that is gone', () => {
  hypervisor.allocUnbound(1, 0);
  hypervisor.grant(1, 0, new GuestPage());
  expect(readdirSync(join(scratch, '1'))).toHaveLength(3);
  hypervisor.destroyDomain(1);
  expect(existsSync(join(scratch, '1'))).toBe(false);
});
