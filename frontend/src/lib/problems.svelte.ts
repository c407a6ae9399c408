import { status } from './api/streams';
import type { Stats } from './whep/stats';

/** How often the server is asked while something seems wrong, and when nothing does. */
const ASK_AGAIN_MS = { unwell: 3_000, well: 10_000 };
/** A class of this many and more asks as often as so many. */
const ASKING_AT_ONCE = 60;
/** Pages that begin together do not go on together. */
const JITTER = 0.3;
/** Fewer pictures a second are worth a question. */
const FPS_WELL = 10;

/** What the server finds wrong with the stream of a class, for as long as somebody looks. */
export class Problems {
  texts = $state<string[]>([]);
  #crowd = 1;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts the starts and stops, so that an answer that comes after one is not shown. */
  #round = 0;

  constructor(
    private readonly className: string,
    private readonly token: () => Promise<string>,
    private readonly stats: () => Stats | undefined,
  ) {}

  start(): void {
    this.stop();
    this.#askAfter(ASK_AGAIN_MS.unwell, this.#round);
  }

  stop(): void {
    this.#round += 1;
    clearTimeout(this.#timer);
    this.texts = [];
  }

  #askAfter(ms: number, round: number): void {
    const jitter = 1 + JITTER * (2 * Math.random() - 1);
    this.#timer = setTimeout(() => void this.#ask(round), ms * jitter);
  }

  async #ask(round: number): Promise<void> {
    const asked = this.token().then((token) => status(this.className, token));
    // Nothing is shown that may not be true any more.
    const found = await asked.catch(() => undefined);
    if (round !== this.#round) return;
    if (found !== undefined) this.#crowd = Math.max(1, found.viewers / ASKING_AT_ONCE);
    this.texts = found?.problems.map(({ text }) => text) ?? [];
    const isStill = found !== undefined && (this.stats()?.fps ?? 0) < FPS_WELL;
    const isUnwell = this.texts.length > 0 || isStill;
    this.#askAfter(ASK_AGAIN_MS[isUnwell ? 'unwell' : 'well'] * this.#crowd, round);
  }
}
