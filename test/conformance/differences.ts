/** The list of differences between ours and a genuine daemon that are known and explained. Reads text; judges nothing. */

export type Explained = {
  readonly like: string;
  readonly file: string;
  readonly title: string;
  readonly reason: string;
};

/** Lines `daemon | file | case | reason`; `#` begins a comment. */
export function parseDifferences(source: string): Explained[] {
  return source
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => {
      const [like = '', file = '', title = '', reason = ''] = line.split(' | ').map((part) => part.trim());
      if (reason === '') throw new Error(`differences.txt: '${line}' has not the form daemon | file | case | reason`);
      return { like, file, title, reason };
    });
}
