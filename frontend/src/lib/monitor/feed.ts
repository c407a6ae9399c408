import { readEvents, type Lesson } from '../api/events';
import { Refused } from '../api/request';
import { Backoff } from '../whep/backoff';
import { takeSlot } from '../whep/slots';
import { headersOf } from './secret';

/** The server says something every ten seconds; a connection that is silent for longer leads nowhere. */
const SILENCE_MAX_MS = 15_000;
/** What was said stays true for so long after the server has ended the events, which it does to everybody from time to time. */
const BETWEEN_MS = 3_000;
/** Until it is looked again whether another page has been closed. */
const CROWDED_MS = 4_000;

const URL = '/api/v1/events';

/** What the wall does with what it is told. */
export interface WallListener {
  /** Everything that there is. */
  onAll(lessons: readonly Lesson[], skewMs: number): void;
  onLesson(lesson: Lesson, skewMs: number): void;
  /** Whether what was said last is what the server says now. */
  onFresh(isFresh: boolean): void;
  /** Something came. */
  onSign(): void;
  /** A secret is needed, or this one is wrong. */
  onDenied(): void;
  /** It cannot be asked. */
  onFailed(isCrowded: boolean): void;
}

/** Every lesson, as the server tells them while the page is open. */
export class WallFeed {
  #retrying = new Backoff(250, 4_000);
  #abort: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #staleTimer: ReturnType<typeof setTimeout> | undefined;
  #isFresh = false;
  #secret: string | undefined;

  constructor(private readonly listener: WallListener) {}

  start(secret: string | undefined): void {
    this.stop();
    this.#secret = secret;
    this.#begin();
  }

  stop(): void {
    this.#abort?.abort();
    clearTimeout(this.#timer);
    this.#fresh(false);
  }

  /** The network is there again: there is no need to wait any longer. */
  retryNow(): void {
    if (this.#isFresh || this.#abort?.signal.aborted !== false) return;
    this.#abort.abort();
    this.#begin();
  }

  #begin(): void {
    clearTimeout(this.#timer);
    const abort = new AbortController();
    this.#abort = abort;
    void this.#follow(abort.signal);
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const giveBack = await takeSlot(location.host);
      if (signal.aborted) return giveBack?.();
      if (giveBack === undefined) {
        this.#fresh(false);
        this.listener.onFailed(true);
        await this.#pause(CROWDED_MS);
        continue;
      }
      const error = await this.#listen(signal).then(
        () => undefined,
        (error: unknown) => error ?? new Error('aborted'),
      );
      giveBack();
      if (signal.aborted) return;
      if (error === undefined) {
        this.#staleTimer = setTimeout(() => this.#fresh(false), BETWEEN_MS);
        continue;
      }
      this.#fresh(false);
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
        this.stop();
        return this.listener.onDenied();
      }
      this.listener.onFailed(false);
      await this.#pause(this.#retrying.next(error instanceof Refused ? error.retryAfterMs : undefined));
    }
  }

  async #listen(signal: AbortSignal): Promise<void> {
    const silence = new AbortController();
    const stop = (): void => silence.abort();
    signal.addEventListener('abort', stop);
    let watchdog = setTimeout(stop, SILENCE_MAX_MS);
    const onSign = (): void => {
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, SILENCE_MAX_MS);
      if (this.#isFresh) this.listener.onSign();
    };
    /** Until all have been told, the wall shows what it knew. */
    let all: Lesson[] | undefined = [];
    let skewMs = 0;
    const onEvent = (name: string, data: string): void => {
      if (name === 'status') {
        const lesson = JSON.parse(data) as Lesson & { now_ms: number };
        skewMs = Date.now() - lesson.now_ms;
        if (all === undefined) this.listener.onLesson(lesson, skewMs);
        else all.push(lesson);
      } else if (name === 'complete' && all !== undefined) {
        this.#retrying.reset();
        clearTimeout(this.#staleTimer);
        this.listener.onAll(all, skewMs);
        all = undefined;
        this.#fresh(true);
        this.listener.onSign();
      }
    };
    try {
      await readEvents(URL, headersOf(this.#secret), silence.signal, onEvent, onSign);
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', stop);
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(resolve, ms);
    });
  }

  #fresh(isFresh: boolean): void {
    clearTimeout(this.#staleTimer);
    if (isFresh === this.#isFresh) return;
    this.#isFresh = isFresh;
    this.listener.onFresh(isFresh);
  }
}
