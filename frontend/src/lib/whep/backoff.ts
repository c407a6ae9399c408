/** How long to wait before the next try: growing, jittered, and never less than the server asks for. */
export class Backoff {
  #tries = 0;

  constructor(
    readonly firstMs: number,
    readonly maxMs: number,
    readonly random: () => number = Math.random,
  ) {}

  /** The next wait. A server's Retry-After is a minimum. */
  next(retryAfterMs = 0): number {
    const grown = Math.min(this.firstMs * 2 ** this.#tries, this.maxMs);
    this.#tries += 1;
    const jittered = grown * (0.5 + this.random() / 2);
    return Math.max(jittered, retryAfterMs);
  }

  /** Something worked: the next trouble begins small again. */
  reset(): void {
    this.#tries = 0;
  }
}
