/**
 * What an agent knew when it last wrote it down, so that its successor keeps the lines that applications have in use
 * instead of asking on them. A file below `<root>/run`, gone at reboot; a record of another boot is worth nothing.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Certainty } from './deduce.js';
import { LINE_COUNT } from './lines.js';

export interface RecordedLine {
  readonly deviceId: number;
  readonly name: string;
  readonly instance: string;
  readonly index: number;
  readonly sure: Certainty;
}

const MAX_RECORD_BYTES = 64 * 1024;
export const RECORD_PATH = 'run/xenchannel-agent/lines.json';
const BOOT_ID_PATH = 'proc/sys/kernel/random/boot_id';

function isRecordedLine(value: unknown): value is RecordedLine {
  if (typeof value !== 'object' || value === null) return false;
  const { deviceId, name, instance, index, sure } = value as Record<string, unknown>;
  return (
    Number.isInteger(deviceId) &&
    typeof name === 'string' &&
    typeof instance === 'string' &&
    Number.isInteger(index) &&
    Number(index) >= 0 &&
    Number(index) < LINE_COUNT &&
    (sure === 'proved' || sure === 'deduced' || sure === 'guessed')
  );
}

export class LineRecord {
  readonly #path: string;
  readonly #root: string;
  #written = '';

  constructor(root: string) {
    this.#root = root;
    this.#path = join(root, RECORD_PATH);
  }

  /** The lines of the last agent of this boot; none if there was none or the file is not ours. */
  async load(): Promise<RecordedLine[]> {
    try {
      const text = await readFile(this.#path, 'utf8');
      if (text.length > MAX_RECORD_BYTES) return [];
      const { bootId, lines } = JSON.parse(text) as { bootId?: unknown; lines?: unknown };
      if (bootId !== (await this.#bootId()) || !Array.isArray(lines)) return [];
      return lines.filter(isRecordedLine);
    } catch {
      return []; // absent or damaged: then the lines are proved again
    }
  }

  async save(lines: readonly RecordedLine[]): Promise<void> {
    const text = `${JSON.stringify({ bootId: await this.#bootId(), lines })}\n`;
    if (text === this.#written) return;
    await mkdir(join(this.#path, '..'), { recursive: true, mode: 0o700 });
    await writeFile(`${this.#path}.new`, text, { mode: 0o600 });
    await rename(`${this.#path}.new`, this.#path);
    this.#written = text;
  }

  async #bootId(): Promise<string> {
    const text = await readFile(join(this.#root, BOOT_ID_PATH), 'utf8').catch(() => '');
    return text.trim();
  }
}
