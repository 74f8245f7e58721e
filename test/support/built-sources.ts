/** The sources as processes run them: built once for a test file, below node_modules, where they find what they need. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll } from 'vitest';

const TOP = fileURLToPath(new URL('../..', import.meta.url));

/** Call it in a `describe`; what it returns gives the directory. `files`: built besides what the product consists of. */
export function builtSources(files: readonly string[] = []): () => string {
  let directory = '';
  beforeAll(() => {
    mkdirSync(join(TOP, 'node_modules/.cache'), { recursive: true });
    directory = mkdtempSync(join(TOP, 'node_modules/.cache/xenchannel-'));
    writeFileSync(join(directory, 'package.json'), '{"type":"module","version":"9.9.9"}');
    writeFileSync(
      join(directory, 'tsconfig.json'),
      JSON.stringify({
        extends: join(TOP, 'tsconfig.json'),
        compilerOptions: {
          noEmit: false,
          outDir: directory,
          rootDir: TOP,
          typeRoots: [join(TOP, 'node_modules/@types')],
        },
        include: [],
        files: ['src/cli/main.ts', ...files].map((file) => join(TOP, file)),
      }),
    );
    // Type errors are the business of the type check; what matters here is what it emits.
    spawnSync('npx', ['tsc', '-p', directory], { cwd: TOP, stdio: 'ignore' });
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return () => directory;
}
