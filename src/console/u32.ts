const U32 = /^(0|[1-9][0-9]{0,9})$/;

/** A grant reference or event channel as a guest may write it: plain decimal, nothing around it, or undefined. */
export function parseU32(text: string | undefined): number | undefined {
  if (text === undefined || !U32.test(text)) return undefined;
  const value = Number(text);
  return value <= 0xffffffff ? value : undefined;
}
