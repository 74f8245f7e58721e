import { describe, expect, it } from 'vitest';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import { formatShell, formatText, type Plan, planChannel, toJsonNodes } from '../../src/dom0/plan.js';
import { parseCapture } from '../console/capture.js';

const plan = (input: Partial<ChannelSpecInput> = {}): Plan =>
  planChannel({
    spec: parseChannelSpec({ name: 'org.example.a', ...input }),
    domid: 5,
    backendDomid: 0,
    runDirectory: '/run/xenchannel',
  });

describe('a plan', () => {
  it('is for the first device id unless another one is asked for', () => {
    expect(plan().address).toEqual({ domid: 5, deviceId: 1, backendDomid: 0 });
    expect(plan({ deviceId: 3 }).address.deviceId).toBe(3);
    expect(plan().path).toBe('/run/xenchannel/dom5/org.example.a');
  });

  it('as text reads like a dump of xenstore-ls -fp', () => {
    const { writes } = plan();
    expect(parseCapture(formatText(writes))).toEqual(writes);
    expect(formatText(writes)).toContain('/local/domain/5/device/console/1/name = "org.example.a"   (n0,r5)\n');
  });

  it('as JSON has permissions as the wire has them', () => {
    expect(toJsonNodes(plan().writes)).toContainEqual({
      path: '/local/domain/5/device/console/1/state',
      value: '1',
      permissions: ['n5', 'r0'],
    });
  });

  it('as a shell script warns of what a script cannot do, and quotes what the shell would eat', () => {
    const script = formatShell(plan({ path: "/run/it's $HOME/s" }));
    expect(script).toContain('# WARNING: single commands are no transaction.');
    expect(script).toContain(`xenstore-write /local/domain/0/backend/console/5/1/path '/run/it'\\''s $HOME/s'\n`);
    expect(script).toContain("xenstore-write /local/domain/5/device/console/1 ''\n");
    expect(script).toContain('xenstore-chmod /local/domain/5/device/console/1 n5 r0\n');
    expect(script.split('\n').filter((line) => line.startsWith('xenstore-rm'))).toHaveLength(3);
  });

  it('with a path that is too long is refused', () => {
    expect(() => plan({ name: 'n'.repeat(120) })).toThrow(/socket path has 141 bytes/);
  });
});
