import { problemsOf } from './api/streams';
import type { Stats } from './whep/stats';

/** How often the server is asked while something seems wrong, and when nothing does: a class asks all at once. */
const ASK_AGAIN_MS = { unwell: 3_000, well: 30_000 };
/** Fewer pictures a second are worth a question. */
const FPS_WELL = 10;

/** What the server finds wrong with the stream of a class, for as long as somebody looks. */
export class Problems {
  texts = $state<string[]>([]);
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts the starts and stops, so that an answer that comes after one is not shown. */
  #round = 0;

  constructor(
    private readonly className: string,
    private readonly stats: () => Stats | undefined,
  ) {}

  /** Begins anew, with the PIN that let this page in. */
  start(pin: string | undefined): void {
    this.stop();
    const round = this.#round;
    const ask = async (): Promise<void> => {
      // Nothing is shown that may not be true any more.
      const texts = await problemsOf(this.className, pin).catch(() => []);
      if (round !== this.#round) return;
      this.texts = texts;
      this.#timer = setTimeout(() => void ask(), ASK_AGAIN_MS[this.#isWell() ? 'well' : 'unwell']);
    };
    this.#timer = setTimeout(() => void ask(), ASK_AGAIN_MS.unwell);
  }

  stop(): void {
    this.#round += 1;
    clearTimeout(this.#timer);
    this.texts = [];
  }

  #isWell(): boolean {
    const stats = this.stats();
    return this.texts.length === 0 && stats !== undefined && stats.fps >= FPS_WELL && stats.audioPackets > 0;
  }
}
