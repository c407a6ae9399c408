import { readEvents, type Lesson } from './api/events';
import { Refused } from './api/request';
import { liveClasses } from './api/streams';
import { Backoff } from './whep/backoff';
import { takeSlot } from './whep/slots';

/** How often a server is asked that does not tell, for it tells as many as it can. */
const ASK_AGAIN_MS = 10_000;

/** The server says something every ten seconds; a connection that is silent for longer leads nowhere. */
const SILENCE_MAX_MS = 25_000;

/** What is known of the lessons: the server may name them to nobody, refuse to, or not answer. */
export type Listing = 'asking' | 'known' | 'hidden' | 'refused' | 'unreachable';

interface LiveLesson {
  class: string;
  name: string;
}

/** The lessons that can be watched now, for as long as the page is open. */
export class LiveLessons {
  listing = $state<Listing>('asking');
  lessons = $state.raw<LiveLesson[]>([]);
  #retrying = new Backoff(500, 8_000);
  #abort = new AbortController();
  #known: Record<string, Lesson> = {};

  start(): void {
    this.#abort = new AbortController();
    void this.#follow(this.#abort.signal);
  }

  stop(): void {
    this.#abort.abort();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const giveBack = await takeSlot(location.host);
      const told = giveBack === undefined ? this.#ask() : this.#listen(signal);
      const error: unknown = await told.then(
        () => undefined,
        (error: unknown) => error,
      );
      giveBack?.();
      if (signal.aborted) return;
      if (error instanceof Refused && error.status === 403) {
        this.listing = 'hidden';
        return;
      }
      const isBusy = error instanceof Refused && error.status === 503 && error.code === 'busy';
      if (isBusy) await this.#ask().catch(() => (this.listing = 'unreachable'));
      else if (error !== undefined) this.listing = error instanceof Refused ? 'refused' : 'unreachable';
      const isAsked = giveBack === undefined || isBusy;
      await new Promise((resolve) => setTimeout(resolve, isAsked ? ASK_AGAIN_MS : this.#retrying.next()));
    }
  }

  async #listen(signal: AbortSignal): Promise<void> {
    this.#known = {};
    let isComplete = false;
    const onEvent = (name: string, data: string): void => {
      if (name === 'complete') isComplete = true;
      if (name === 'status') {
        const lesson = JSON.parse(data) as Lesson;
        this.#known[lesson.class] = lesson;
      }
      if (!isComplete) return;
      this.#retrying.reset();
      this.listing = 'known';
      const live = Object.values(this.#known).filter(({ state }) => state === 'live');
      this.lessons = live.sort((a, b) => a.name.localeCompare(b.name));
    };
    const silence = new AbortController();
    const stop = (): void => silence.abort();
    signal.addEventListener('abort', stop);
    let watchdog = setTimeout(stop, SILENCE_MAX_MS);
    const onSign = (): void => {
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, SILENCE_MAX_MS);
    };
    await readEvents('/api/v1/events', {}, silence.signal, onEvent, onSign).finally(() => {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', stop);
    });
  }

  async #ask(): Promise<void> {
    const classes = await liveClasses();
    this.listing = classes === undefined ? 'hidden' : 'known';
    this.lessons = (classes ?? []).map((name) => ({ class: name, name }));
  }
}
