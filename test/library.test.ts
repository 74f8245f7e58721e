/** The README's promise: what the command line does, a program does with nothing but the library's public face. */
import { describe, expect, it } from 'vitest';
import {
  attach,
  detach,
  findHostEnd,
  followEvents,
  list,
  parseChannelSpec,
  receive,
  send,
  status,
  waitFor,
} from '../src/index.js';
import { DaemonHost } from './support/daemon-host.js';

describe('the library', () => {
  it('attaches, waits, sends, receives, tells and detaches', async () => {
    const { store, env, lines } = await DaemonHost.start();
    const { signal } = new AbortController();
    const spec = parseChannelSpec({ name: 'org.example.a', speakFirst: true });
    const { path } = await attach(store, { domain: 'guest1', spec, waitMs: 5000 }, env);
    expect((await list(store, env)).channels).toMatchObject([{ name: 'org.example.a', path }]);
    await waitFor(store, { domain: '1', name: 'org.example.a', goal: 'connected', timeoutMs: 5000, signal }, env);
    const end = await findHostEnd(store, { domain: '1', name: 'org.example.a' }, env);
    const [tty] = lines.slice(-1);
    tty?.openLine();
    const source = (async function* () {
      yield Buffer.from('question');
    })();
    const sent = send({ end, source, waitConsumed: true, timeoutMs: 5000, signal, onOutput: () => {} }, env);
    expect(await sent).toEqual({ sentBytes: 8, consumed: true });
    expect(tty?.receive().toString()).toBe('question');
    tty?.send('answer');
    let got = '';
    const write = async (bytes: Uint8Array): Promise<void> => {
      got += Buffer.from(bytes).toString();
    };
    await receive({ end, bytes: 6, timeoutMs: 5000, signal, write }, env);
    expect(got).toBe('answer');
    expect((await status(store, {}, env)).channels).toMatchObject([{ figures: { fromGuestBytes: 6 } }]);
    await detach(store, { domain: '1', name: 'org.example.a' }, env);
    const types: string[] = [];
    for await (const { type } of followEvents(env, { since: 0, signal })) {
      types.push(type);
      if (type === 'gone') break;
    }
    expect(types).toEqual(expect.arrayContaining(['appeared', 'connected', 'client-connected', 'client-gone', 'gone']));
  });
});
