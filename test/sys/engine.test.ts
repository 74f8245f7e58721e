import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

describe('tuneEngine', () => {
  it('uses no setting that this engine does not know: it would say so on stderr of every daemon', () => {
    const module = fileURLToPath(new URL('../../dist/src/sys/engine.js', import.meta.url));
    const program = `import { tuneEngine } from ${JSON.stringify(module)}; tuneEngine(); console.log('tuned')`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    });
    expect({ stdout, stderr }).toEqual({ stdout: 'tuned\n', stderr: '' });
  });
});
