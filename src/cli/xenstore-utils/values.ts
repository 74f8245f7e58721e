/**
 * Values as the xenstore utilities print and read them: everything but printable ASCII escaped. Strings are latin-1, one
 * character per byte. Source: xen:tools/xenstore/xs_lib.c (sanitise_value, unsanitise_value).
 */

const SHORT: Readonly<Record<string, string>> = { '\t': '\\t', '\n': '\\n', '\r': '\\r', '\\': '\\\\' };

export function escaped(value: string): string {
  return value.replace(/[^\x20-\x5b\x5d-\x7e]/g, (char) => {
    const short = SHORT[char];
    if (short !== undefined) return short;
    const code = char.charCodeAt(0);
    return code < 8 ? `\\${code.toString(8).padStart(3, '0')}` : `\\x${code.toString(16).padStart(2, '0')}`;
  });
}

const LETTERS: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r' };

/** Never fails: what is no known escape stands for itself, a backslash at the end for NUL. */
export function unescaped(text: string): string {
  let value = '';
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (char !== '\\') {
      value += char;
      continue;
    }
    const kind = text.charAt(++at);
    const letter = LETTERS[kind];
    if (kind === '') value += '\0';
    else if (letter !== undefined) value += letter;
    else if (kind === 'x') {
      const number = scanNumber(text, at + 1, 16, 2);
      value += number === undefined ? 'x' : byte(number.value);
      at += number?.length ?? 0;
    } else if (/[0-7]/.test(kind)) {
      const number = scanNumber(text, at, 8, 3);
      value += byte(number?.value ?? 0);
      at += (number?.length ?? 1) - 1;
    } else value += kind;
  }
  return value;
}

function byte(code: number): string {
  return String.fromCharCode(code & 0xff);
}

/** What sscanf("%2x") or sscanf("%3o") takes at `at`: blanks that do not count, then up to `width` characters. */
function scanNumber(
  text: string,
  at: number,
  radix: 8 | 16,
  width: number,
): { value: number; length: number } | undefined {
  const blanks = /^[ \t\n\v\f\r]*/.exec(text.slice(at))?.[0].length ?? 0;
  const field = text.slice(at + blanks, at + blanks + width);
  const match = (radix === 16 ? /^([+-]?)([0-9a-f]+)/i : /^([+-]?)([0-7]+)/).exec(field);
  if (match?.[2] === undefined) return undefined;
  const magnitude = Number.parseInt(match[2], radix);
  return { value: match[1] === '-' ? -magnitude : magnitude, length: blanks + match[0].length };
}
