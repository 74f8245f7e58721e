import { describe, expect, it } from 'vitest';
import { type WaitHost, waitUntil } from '../../../xenstore/client/wait.js';
import { type StoreOperations, XenstoreError } from '../../../xenstore/index.js';
import { FakeClock } from '../../support/fake-clock.js';

/** A host whose watches a test fires by hand. */
class FakeHost implements WaitHost {
  readonly store = {} as StoreOperations;
  readonly clock = new FakeClock();
  readonly watched = new Map<string, { onEvent: () => void; onLost: (reason: XenstoreError) => void }>();
  away = false;

  readonly reconnecting = (): boolean => this.away;

  readonly watch: WaitHost['watch'] = (path, onEvent, onLost) => {
    if (path === '') throw new XenstoreError('EINVAL', 'it is empty');
    this.watched.set(path, { onEvent, onLost });
    return {
      stop: async () => {
        this.watched.delete(path);
      },
    };
  };

  fire(path: string): void {
    this.watched.get(path)?.onEvent();
  }

  /** Nothing may be left over, whatever the outcome. */
  expectClean(): void {
    expect(this.watched.size).toBe(0);
    expect(this.clock.pending).toBe(0);
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const OPTIONS = { what: 'frontend 3/1 connected', paths: ['/fe', '/be'], timeoutMs: 5000 };

describe('waitUntil', () => {
  it('evaluates at once and returns what is neither undefined nor false', async () => {
    const host = new FakeHost();
    expect(await waitUntil(host, async () => 0, OPTIONS)).toBe(0);
    expect(await waitUntil(host, async () => '', OPTIONS)).toBe('');
    expect(await waitUntil<null>(host, async () => null, OPTIONS)).toBe(null);
    host.expectClean();
  });

  it('evaluates again when any of the paths changes', async () => {
    const host = new FakeHost();
    let runs = 0;
    const waiting = waitUntil(host, async () => (++runs === 3 ? 'done' : runs === 1 ? undefined : false), OPTIONS);
    await turn();
    expect([runs, [...host.watched.keys()]]).toEqual([1, ['/fe', '/be']]);
    host.fire('/fe');
    await turn();
    expect(runs).toBe(2);
    host.fire('/be');
    expect(await waiting).toBe('done');
    host.expectClean();
  });

  it('never evaluates twice at a time, and joins what changed meanwhile into one more run', async () => {
    const host = new FakeHost();
    let running = 0;
    let most = 0;
    let runs = 0;
    const waiting = waitUntil(
      host,
      async () => {
        running++;
        runs++;
        most = Math.max(most, running);
        await turn();
        running--;
        return runs === 2;
      },
      OPTIONS,
    );
    for (let i = 0; i < 5; i++) host.fire('/fe');
    expect(await waiting).toBe(true);
    expect([most, runs]).toEqual([1, 2]);
  });

  it('gives up after the time limit and says what it waited for', async () => {
    const host = new FakeHost();
    const waiting = waitUntil(host, async () => undefined, OPTIONS);
    await turn();
    host.clock.advance(4999);
    await turn();
    expect(host.watched.size).toBe(2);
    host.clock.advance(1);
    await expect(waiting).rejects.toMatchObject({
      code: 'timeout',
      message: 'frontend 3/1 connected: did not happen within 5000 ms',
    });
    host.expectClean();
  });

  it('gives up on time although an evaluation hangs', async () => {
    const host = new FakeHost();
    const waiting = waitUntil(host, () => new Promise<never>(() => {}), OPTIONS);
    host.clock.advance(5000);
    await expect(waiting).rejects.toMatchObject({ code: 'timeout' });
    host.expectClean();
  });

  it.each([-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])('refuses a time limit of %d ms', async (timeoutMs) => {
    const host = new FakeHost();
    await expect(waitUntil(host, async () => true, { ...OPTIONS, timeoutMs })).rejects.toMatchObject({
      code: 'EINVAL',
    });
    host.expectClean();
  });

  it('takes a missing node for "not yet"', async () => {
    const host = new FakeHost();
    let present = false;
    const waiting = waitUntil(
      host,
      async () => {
        if (!present) throw new XenstoreError('ENOENT', 'no such node');
        return 'there';
      },
      OPTIONS,
    );
    await turn();
    present = true;
    host.fire('/fe');
    expect(await waiting).toBe('there');
  });

  it('takes a lost connection for "not yet" only while it is being restored', async () => {
    const host = new FakeHost();
    host.away = true;
    const waiting = waitUntil(host, async () => Promise.reject(new XenstoreError('disconnected', 'gone')), OPTIONS);
    await turn();
    expect(host.watched.size).toBe(2);
    host.away = false;
    host.fire('/fe');
    await expect(waiting).rejects.toMatchObject({ code: 'disconnected' });
    host.expectClean();
  });

  it('passes every other error on', async () => {
    const host = new FakeHost();
    const error = new XenstoreError('EACCES', 'no permission');
    await expect(waitUntil(host, async () => Promise.reject(error), OPTIONS)).rejects.toBe(error);
    host.expectClean();
  });

  it('fails when a watch is refused or lost', async () => {
    const host = new FakeHost();
    const waiting = waitUntil(host, async () => undefined, OPTIONS);
    await turn();
    const reason = new XenstoreError('ENOSPC', 'too many watches');
    host.watched.get('/be')?.onLost(reason);
    await expect(waiting).rejects.toBe(reason);
    host.expectClean();
  });

  it('leaves no watch behind when a later path is illegal', async () => {
    const host = new FakeHost();
    await expect(waitUntil(host, async () => true, { ...OPTIONS, paths: ['/fe', ''] })).rejects.toMatchObject({
      code: 'EINVAL',
    });
    host.expectClean();
  });

  it('ends with the reason of its signal, before and during the wait', async () => {
    const host = new FakeHost();
    const abort = new AbortController();
    const waiting = waitUntil(host, async () => undefined, { ...OPTIONS, signal: abort.signal });
    await turn();
    abort.abort(new Error('no longer needed'));
    await expect(waiting).rejects.toThrow('no longer needed');
    host.expectClean();
    let runs = 0;
    const late = waitUntil(host, async () => ++runs, { ...OPTIONS, signal: abort.signal });
    await expect(late).rejects.toThrow('no longer needed');
    expect(runs).toBe(0);
    host.expectClean();
  });

  it('ignores what changes after its end', async () => {
    const host = new FakeHost();
    let runs = 0;
    let late = (): void => {};
    const waiting = waitUntil(host, async () => ++runs === 2, OPTIONS);
    await turn();
    late = host.watched.get('/fe')?.onEvent ?? late;
    late();
    await waiting;
    late();
    await turn();
    expect(runs).toBe(2);
  });
});
