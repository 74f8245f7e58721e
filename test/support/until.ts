/** Waits for a condition without a fixed sleep: looks again in each turn of the event loop, gives up after a bound. */

export async function until(what: string, condition: () => boolean, timeoutMs = 15_000): Promise<void> {
  const endMs = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > endMs) throw new Error(`waited ${timeoutMs} ms in vain for: ${what}`);
    await new Promise((settle) => setImmediate(settle));
  }
}
