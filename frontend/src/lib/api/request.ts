/** A request without an answer has failed after this long: a network that swallows packets never says so. */
export const REQUEST_MS = 10_000;
/** The longest wait that a server may ask for. A browser's timer of more than 24 days would fire at once. */
const RETRY_AFTER_MAX_MS = 3_600_000;

/** An answer that is an error. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    /** What docs/api.md calls it; nothing if the answer is not Lectern's but a proxy's. */
    readonly code: string | undefined,
    readonly retryAfterMs: number | undefined,
  ) {
    super(`refused with ${status} (${code ?? 'no code'})`);
  }

  static async from(response: Response): Promise<Refused> {
    const problem = (await response.json().catch(() => null)) as { code?: unknown } | null;
    const code = typeof problem?.code === 'string' ? problem.code : undefined;
    const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
    const isUsable = Number.isFinite(seconds) && seconds >= 0;
    return new Refused(
      response.status,
      code,
      isUsable ? Math.min(seconds * 1000, RETRY_AFTER_MAX_MS) : undefined,
    );
  }
}

/**
 * `fetch` that fails when nothing comes for too long, also in the middle of the answer. Browsers without `timeout`, such as
 * Safari before 16, wait for as long as they do by themselves.
 */
export function request(url: string, options: RequestInit = {}): Promise<Response> {
  return fetch(url, { ...options, signal: AbortSignal.timeout?.(REQUEST_MS) ?? null });
}
