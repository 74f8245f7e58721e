/** A dump of a xenstore tree as a JSON file: reading, and writing so that a reader never finds half of one. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { parseTreeDump, type TreeDump } from '../../xenstore/daemon/dump.js';
import { isXenstoreError } from '../../xenstore/errors.js';
import { ChannelError } from '../base/errors.js';

/** Throws ChannelError `usage-invalid` when the file holds no dump. */
export function readTreeFile(path: string): TreeDump {
  const text = readFileSync(path, 'utf8');
  try {
    return parseTreeDump(JSON.parse(text));
  } catch (error) {
    throw unusableFile(path, error);
  }
}

export function unusableFile(path: string, error: unknown): ChannelError {
  if (!(error instanceof SyntaxError) && !isXenstoreError(error, 'EINVAL')) throw error;
  return new ChannelError('usage-invalid', `${path}: ${error.message}`, { path }, { cause: error });
}

/** One node per line, so that two dumps can be compared with diff. */
export function writeTreeFile(path: string, dump: TreeDump): void {
  const nodes = dump.nodes.map((node) => `  ${JSON.stringify(node)}`).join(',\n');
  const text = `{\n "version": ${dump.version},\n "special": ${JSON.stringify(dump.special)},\n "nodes": [\n${nodes}\n ]\n}\n`;
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, text, { mode: 0o600 });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
