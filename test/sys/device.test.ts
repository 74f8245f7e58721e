import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deviceFiles, loadDeviceCalls } from '../../src/sys/device.js';

const { errno } = constants;

describe('device calls', () => {
  let directory: string;
  let path: string;
  let fd: number;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'xenchannel-device-'));
    path = join(directory, 'page');
    writeFileSync(path, Buffer.alloc(4096, 'x'));
    fd = openSync(path, 'r+');
  });
  afterEach(() => {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });

  const calls = loadDeviceCalls();
  const mapped = () => {
    const mapping = calls.map(fd, 4096, 0n);
    if (typeof mapping === 'number') throw new Error(`map failed: ${mapping}`);
    return mapping;
  };

  it('share mapped memory with everybody else who maps it', () => {
    const [one, two] = [mapped(), mapped()];
    new Uint8Array(one.buffer)[10] = 42;
    expect([...new Uint8Array(two.buffer).subarray(9, 11)]).toEqual(['x'.charCodeAt(0), 42]);
  });

  it('leave a view that outlives the mapping harmless: private zeros instead of a crash', () => {
    const [one, two] = [mapped(), mapped()];
    const stale = new Int32Array(one.buffer);
    one.unmap();
    expect(Atomics.load(stale, 0)).toBe(0);
    Atomics.store(stale, 0, 7);
    expect(new Uint8Array(two.buffer)[0]).toBe('x'.charCodeAt(0));
  });

  it('answer a failure with the negative errno', () => {
    expect(calls.map(fd, 4096, 1n)).toBe(-errno.EINVAL);
    expect(calls.ioctl(fd, 0x00184700, new Uint8Array(24))).toBe(-errno.ENOTTY);
    expect(calls.read(-1, new Uint8Array(4))).toBe(-errno.EBADF);
    expect(deviceFiles.open(join(directory, 'nothing'))).toBe(-errno.ENOENT);
  });

  it('read and write into the given view and nothing else', () => {
    const memory = new Uint8Array(16);
    expect(calls.read(fd, memory.subarray(4, 8))).toBe(4);
    expect(Buffer.from(memory).toString('latin1')).toBe('\0\0\0\0xxxx\0\0\0\0\0\0\0\0');
    expect(calls.write(fd, Buffer.from('abc'))).toBe(3);
    expect(new TextDecoder().decode(new Uint8Array(mapped().buffer, 0, 8))).toBe('xxxxabcx');
  });
});
