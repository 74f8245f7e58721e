import { constants } from 'node:os';
import { describe, expect, it } from 'vitest';
import { ChannelError } from '../../src/base/errors.js';
import type { LogFields, Logger, LogLevel } from '../../src/base/log.js';
import { openXenHypervisor } from '../../src/hypervisor/xen.js';
import {
  EVTCHN,
  encodeSetUnmapNotify,
  encodeUnmapGrantRef,
  GNTDEV,
  MapGrantRef,
} from '../../src/hypervisor/xen-abi.js';
import { XenGrantMapper } from '../../src/hypervisor/xen-gntdev.js';
import { FakeXen } from './fake-xen.js';

const { errno } = constants;

function start(options: { restrictTo?: number; log?: Logger } = {}) {
  const xen = new FakeXen();
  xen.grants.set('5/11', new ArrayBuffer(4096));
  xen.offered.add('5/7').add('5/8').add('6/7');
  const hypervisor = openXenHypervisor({ ...options, files: xen, loadCalls: () => xen });
  return { xen, hypervisor };
}

function errorOf(action: () => unknown): ChannelError {
  try {
    action();
  } catch (error) {
    if (error instanceof ChannelError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const collectingLogger = (lines: { level: LogLevel; msg: string }[]): Logger => {
  const logger: Logger = {
    log: (level: LogLevel, msg: string, _fields?: LogFields) => void lines.push({ level, msg }),
    with: () => logger,
  };
  return logger;
};

describe('the ABI of the Xen devices', () => {
  // Numbers as a C program prints them that includes linux:include/uapi/xen/gntdev.h and evtchn.h.
  it.each([
    ['IOCTL_GNTDEV_MAP_GRANT_REF', GNTDEV.mapGrantRef, 0x00184700],
    ['IOCTL_GNTDEV_UNMAP_GRANT_REF', GNTDEV.unmapGrantRef, 0x00104701],
    ['IOCTL_GNTDEV_SET_UNMAP_NOTIFY', GNTDEV.setUnmapNotify, 0x00104707],
    ['IOCTL_EVTCHN_BIND_INTERDOMAIN', EVTCHN.bindInterdomain, 0x00084501],
    ['IOCTL_EVTCHN_UNBIND', EVTCHN.unbind, 0x00044503],
    ['IOCTL_EVTCHN_NOTIFY', EVTCHN.notify, 0x00044504],
    ['IOCTL_EVTCHN_RESET', EVTCHN.reset, 0x00004505],
    ['IOCTL_EVTCHN_RESTRICT_DOMID', EVTCHN.restrictDomid, 0x00024506],
  ])('%s has the number of the kernel headers', (_name, ours, theirs) => expect(ours).toBe(theirs));

  it('lays out MAP_GRANT_REF as count, padding, index, domid, reference', () => {
    const request = new MapGrantRef(5, 0xfffffff0);
    expect([...new Uint32Array(request.bytes.buffer)]).toEqual([1, 0, 0, 0, 5, 0xfffffff0]);
    request.bytes[1] = 0x1_0000_3000n;
    expect(request.index).toBe(0x1_0000_3000n);
  });

  it('lays out UNMAP_GRANT_REF and SET_UNMAP_NOTIFY with a 64-bit index', () => {
    expect([...new Uint32Array(encodeUnmapGrantRef(0x1_0000_3000n).buffer)]).toEqual([0x3000, 1, 1, 0]);
    expect([...new Uint32Array(encodeSetUnmapNotify(0x1_0000_3000n, 42).buffer)]).toEqual([0x3000, 1, 2, 42]);
  });
});

describe('opening the Xen hypervisor', () => {
  it.each([
    ['/dev/xen/gntdev', errno.ENOENT, 'not-on-xen', 'modprobe xen-gntdev xen-evtchn'],
    ['/dev/xen/evtchn', errno.ENOENT, 'not-on-xen', 'modprobe xen-gntdev xen-evtchn'],
    ['/dev/xen/gntdev', errno.ENODEV, 'not-on-xen', 'ENODEV'],
    ['/dev/xen/evtchn', errno.EACCES, 'permission-denied', 'run as root'],
    ['/dev/xen/gntdev', errno.EPERM, 'permission-denied', 'run as root'],
    ['/dev/xen/evtchn', errno.EMFILE, 'system-call-failed', 'EMFILE'],
  ])('names %s and what to do when it fails with errno %i', (path, number, code, advice) => {
    const xen = new FakeXen();
    xen.missing.set(path, number);
    const error = errorOf(() => openXenHypervisor({ files: xen, loadCalls: () => xen }));
    expect(error.code).toBe(code);
    expect(error.message).toContain(path);
    expect(error.message).toContain(advice);
    expect(xen.openFiles.size).toBe(0);
  });

  it('leaves no descriptor open when koffi is missing', () => {
    const xen = new FakeXen();
    const loadCalls = () => {
      throw new ChannelError('module-missing', 'koffi');
    };
    expect(errorOf(() => openXenHypervisor({ files: xen, loadCalls })).code).toBe('module-missing');
    expect(xen.openFiles.size).toBe(0);
  });

  it('closes every descriptor and unmaps every page at the end', () => {
    const { xen, hypervisor } = start();
    hypervisor.grants.map(5, 11);
    hypervisor.events.bind(5, 7, () => {});
    hypervisor.close();
    expect(xen.openFiles.size).toBe(0);
    expect(xen.mapped.size).toBe(0);
    expect(xen.slots.size).toBe(0);
  });

  it('touches no other domain when it serves a single one', () => {
    const { hypervisor } = start({ restrictTo: 5 });
    expect(() => hypervisor.events.bind(6, 7, () => {})).toThrow(/serves only 5/);
    expect(() => hypervisor.grants.map(6, 11)).toThrow(/serves only 5/);
    expect(() => hypervisor.grants.map(5, 11)).not.toThrow();
  });
});

describe('a granted page', () => {
  it('is the memory that the domain granted, as bytes and as words', () => {
    const { xen, hypervisor } = start();
    const page = hypervisor.grants.map(5, 11);
    Atomics.store(page.words, 3, 0x01020304);
    page.bytes[100] = 7;
    const granted = new Uint8Array(xen.grants.get('5/11') ?? new ArrayBuffer(0));
    expect([granted[100], granted.slice(12, 16).reduce((sum, byte) => sum + byte)]).toEqual([7, 10]);
    expect([page.bytes.length, page.words.length]).toEqual([4096, 1024]);
  });

  it('is unmapped before its slot is given back, and only once', () => {
    const { xen, hypervisor } = start();
    const page = hypervisor.grants.map(5, 11);
    page.release();
    page.release();
    expect(xen.log).toEqual(['unmap', 'unmap-grant-ref']);
    expect(xen.slots.size).toBe(0);
  });

  it('refuses every access after its release', () => {
    const { hypervisor } = start();
    const page = hypervisor.grants.map(5, 11);
    page.release();
    expect(() => page.bytes).toThrow(/after its release/);
    expect(() => page.words).toThrow(/after its release/);
  });

  it.each([
    ['an unknown reference', 5, 12],
    ['a domain that is gone', 99, 11],
    ['a reference of more than 32 bits', 5, 2 ** 32],
    ['a negative reference', 5, -1],
    ['a reserved domid', 0x7ff0, 11],
  ])('cannot be had from %s, and no slot stays behind', (_what, domid, reference) => {
    const { xen, hypervisor } = start();
    const error = errorOf(() => hypervisor.grants.map(domid, reference));
    expect(error.code).toBe('grant-unmappable');
    expect(error.message).toContain(`grant reference ${reference} of domain ${domid}`);
    expect(xen.slots.size).toBe(0);
  });

  it('that is paged out is waited for, a bounded time', () => {
    const { xen, hypervisor } = start();
    xen.pagedOut = 5;
    expect(hypervisor.grants.map(5, 11).bytes.length).toBe(4096);
    expect(xen.pausedMs).toBe(5);
    xen.pagedOut = 1000;
    expect(errorOf(() => hypervisor.grants.map(5, 11)).message).toContain('EAGAIN');
    expect(xen.pausedMs).toBeLessThan(100);
    expect(xen.slots.size).toBe(1);
  });

  it('can ring an event channel when it is unmapped', () => {
    const { xen } = start();
    const page = new XenGrantMapper(xen, xen.open('/dev/xen/gntdev')).map(5, 11);
    page.notifyOnUnmap(42);
    expect(xen.log).toEqual(['unmap-notify 2 42']);
    page.release();
    expect(() => page.notifyOnUnmap(42)).toThrow(/after its release/);
  });
});

describe('a bound event channel', () => {
  it('delivers one event soon after binding', () => {
    const { xen, hypervisor } = start();
    let events = 0;
    hypervisor.events.bind(5, 7, () => events++);
    expect(events).toBe(0);
    xen.turn();
    xen.turn();
    expect(events).toBe(1);
  });

  it('delivers no further event until it is unmasked, and then the one that came meanwhile', () => {
    const { xen, hypervisor } = start();
    let events = 0;
    const port = hypervisor.events.bind(5, 7, () => events++);
    xen.turn();
    xen.ring('5/7');
    xen.ring('5/7');
    xen.turn();
    expect(events).toBe(1);
    port.unmask();
    xen.turn();
    xen.turn();
    expect(events).toBe(2);
  });

  it('is unmasked with a system call only when it is masked', () => {
    const { xen, hypervisor } = start();
    const port = hypervisor.events.bind(5, 7, () => {});
    port.unmask();
    expect(xen.log).toEqual([]);
    xen.turn();
    port.unmask();
    port.unmask();
    expect(xen.log).toEqual(['unmask 40']);
  });

  it('rings the port of the other side', () => {
    const { xen, hypervisor } = start();
    const port = hypervisor.events.bind(5, 8, () => {});
    port.notify();
    expect(xen.notified).toEqual(['5/8']);
  });

  it('is told apart from others that are pending in the same read', () => {
    const { xen, hypervisor } = start();
    const seen: number[] = [];
    for (const remote of [7, 8]) hypervisor.events.bind(5, remote, () => seen.push(remote));
    xen.turn();
    expect(seen).toEqual([7, 8]);
  });

  it('delivers nothing after close, even when it was read together with the event that closed it', () => {
    const { xen, hypervisor } = start();
    const seen: number[] = [];
    hypervisor.events.bind(5, 7, () => {
      seen.push(7);
      second.close();
    });
    const second = hypervisor.events.bind(5, 8, () => seen.push(8));
    xen.turn();
    expect(seen).toEqual([7]);
    second.close();
    second.notify();
    second.unmask();
    expect(xen.notified).toEqual([]);
    expect(xen.offered.has('5/8')).toBe(true);
  });

  it('gets its event although the listener before it throws', () => {
    const { xen, hypervisor } = start();
    const seen: number[] = [];
    hypervisor.events.bind(5, 7, () => {
      throw new Error('listener broke');
    });
    hypervisor.events.bind(5, 8, () => seen.push(8));
    expect(() => xen.turn()).toThrow('listener broke');
    expect(seen).toEqual([8]);
  });

  it('does nothing to another file after the hypervisor was closed', () => {
    const { xen, hypervisor } = start();
    const port = hypervisor.events.bind(5, 7, () => {});
    xen.turn();
    hypervisor.close();
    port.notify();
    port.unmask();
    port.close();
    expect([...xen.notified, ...xen.log]).toEqual([]);
  });

  it('sits on a descriptor of its domain, restricted to it, that goes with its last port', () => {
    const { xen, hypervisor } = start();
    const ports = [hypervisor.events.bind(5, 7, () => {}), hypervisor.events.bind(5, 8, () => {})];
    hypervisor.events.bind(6, 7, () => {});
    expect(xen.restrictions()).toEqual([5, 6]);
    for (const port of ports) port.close();
    expect(xen.restrictions()).toEqual([6]);
  });

  it('works, with a warning, where the kernel cannot restrict', () => {
    const lines: { level: LogLevel; msg: string }[] = [];
    const { xen, hypervisor } = start({ log: collectingLogger(lines) });
    xen.canRestrict = false;
    hypervisor.events.bind(5, 7, () => {});
    hypervisor.events.bind(6, 7, () => {});
    expect(lines).toEqual([{ level: 'warn', msg: expect.stringContaining('cannot restrict') }]);
  });

  it.each([
    ['a port that is not offered', 5, 9, /does not offer it to us, or somebody else serves it/],
    ['a dead domain', 99, 7, /does not exist/],
    ['a port of more than 32 bits', 5, 2 ** 32, /EINVAL/],
    ['a domid that is none', -1, 7, /EINVAL/],
  ])('cannot be had from %s, and no descriptor stays behind', (_what, domid, port, message) => {
    const { xen, hypervisor } = start();
    const error = errorOf(() => hypervisor.events.bind(domid, port, () => {}));
    expect(error.code).toBe('port-unbindable');
    expect(error.message).toMatch(message);
    expect([...xen.openFiles.values()]).toEqual(['gntdev']);
  });

  it('cannot be bound twice: that is the lock against a second server', () => {
    const { hypervisor } = start();
    const first = hypervisor.events.bind(5, 7, () => {});
    expect(() => hypervisor.events.bind(5, 7, () => {})).toThrow(/somebody else serves it/);
    first.close();
    expect(() => hypervisor.events.bind(5, 7, () => {})).not.toThrow();
  });
});

describe('an overflow of the event buffer', () => {
  it('is answered by a reset and an event for every port', () => {
    const { xen, hypervisor } = start();
    const seen: number[] = [];
    const ports = [7, 8].map((remote) => hypervisor.events.bind(5, remote, () => seen.push(remote)));
    xen.turn();
    for (const port of ports) port.unmask();
    xen.overflow();
    xen.turn();
    expect(seen).toEqual([7, 8, 7, 8]);
    expect(xen.log).toContain('reset');
    expect(xen.log).toContain('poll-again');
  });

  it('that never ends is given up, with an error in the log', () => {
    const lines: { level: LogLevel; msg: string }[] = [];
    const { xen, hypervisor } = start({ log: collectingLogger(lines) });
    hypervisor.events.bind(5, 7, () => {});
    for (let i = 0; i < 100; i++) {
      xen.overflow();
      xen.turn();
    }
    expect(xen.log.filter((line) => line === 'reset').length).toBeLessThan(20);
    expect(lines.at(-1)).toEqual({ level: 'error', msg: expect.stringContaining('is broken') });
  });
});
