/** Programs of their own that use a channel, as tests start them: they set no terminal mode. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Pty } from '../../src/sys/pty.js';
import { until } from '../support/until.js';

/** Every byte value several times, in an order in which no neighbour stays the same. */
export const ALL_BYTES = Buffer.from(Array.from({ length: 1024 }, (_, at) => (at * 7 + (at >> 8)) & 0xff));

/** name -> target of every entry in a link directory. */
export function linksIn(root: string, directory = 'xenchannel'): Record<string, string> {
  const path = join(root, 'dev', directory);
  if (!existsSync(path)) return {};
  return Object.fromEntries(readdirSync(path).map((entry) => [entry, readlinkSync(join(path, entry))]));
}

/** A program that has the channel open and copies it to its output. */
export async function reader(path: string): Promise<ChildProcessWithoutNullStreams> {
  const child = spawn('sh', ['-c', 'exec 3<>"$1"; echo open >&2; exec cat <&3', 'sh', path]);
  onTestFinished(() => {
    child.kill();
  });
  const [first] = await once(child.stderr, 'data');
  if (String(first) !== 'open\n') throw new Error(`the reader of ${path} said ${String(first)}`);
  await until('the shell has become cat', () => readFileSync(`/proc/${child.pid}/comm`, 'utf8') === 'cat\n');
  return child;
}

/** What a reader has copied, once it is `count` bytes. */
export function collect(child: ChildProcessWithoutNullStreams, count: number): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  return new Promise((done) => {
    child.stdout.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length >= count) done(bytes);
    });
  });
}

/** What programs write into a line, once `enough` says so. */
export function received(pty: Pty, enough: (bytes: Buffer) => boolean): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  const chunk = Buffer.alloc(65_536);
  return new Promise((done) => {
    const poll = pty.watch(() => {
      for (;;) {
        const got = pty.read(chunk);
        if (typeof got !== 'number' || got === 0) break;
        bytes = Buffer.concat([bytes, chunk.subarray(0, got)]);
      }
      if (!enough(bytes)) return;
      poll.want({});
      done(bytes);
    });
    poll.want({ readable: true });
  });
}

/** Copies a file into a channel, and ends. */
export function writeFileInto(file: string, path: string): void {
  spawn('sh', ['-c', 'cat "$1" >"$2"', 'sh', file, path]);
}
