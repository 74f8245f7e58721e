/**
 * Bytes as latin-1 strings and back: the most compact exact form the runtime has for values, names and tokens.
 */

/** What every Buffer has besides its documented methods; they skip the encoding's name and its look-up. */
interface Latin1Methods {
  latin1Slice(start: number, end: number): string;
  latin1Write(text: string, offset: number, length: number): number;
}

const { latin1Slice, latin1Write }: Partial<Latin1Methods> = Buffer.prototype as Partial<Latin1Methods>;

export const textOf: (bytes: Buffer, start: number, end: number) => string =
  latin1Slice === undefined
    ? (bytes, start, end) => bytes.toString('latin1', start, end)
    : (bytes, start, end) => latin1Slice.call(bytes, start, end);

export const putText: (bytes: Buffer, text: string, offset: number) => void =
  latin1Write === undefined
    ? (bytes, text, offset) => void bytes.write(text, offset, text.length, 'latin1')
    : (bytes, text, offset) => void latin1Write.call(bytes, text, offset, text.length);

/** The same text in one piece of its own: slices and concatenations keep what they were made of alive. */
export function flat(text: string): string {
  const bytes = Buffer.from(text, 'latin1');
  return textOf(bytes, 0, bytes.length);
}
