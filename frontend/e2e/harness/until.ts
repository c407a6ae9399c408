import { setTimeout as pause } from 'node:timers/promises';

/** How often a condition is looked at. Short against every deadline, long against one look over HTTP or CDP. */
const LOOK_EVERY_MS = 50;

/**
 * Looks until `look` yields a value, and returns it.
 *
 * `undefined` means "not yet". A look that throws is not yet either; the last error is the cause of the failure, so that
 * a deadline says what was wrong and not only that time ran out.
 */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  deadlineMs = 20_000,
): Promise<T> {
  const deadline = performance.now() + deadlineMs;
  let cause: unknown;
  do {
    try {
      const value = await look();
      if (value !== undefined) return value;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    await pause(LOOK_EVERY_MS);
  } while (performance.now() < deadline);
  throw new Error(`not within ${deadlineMs} ms: ${what}`, { cause });
}
