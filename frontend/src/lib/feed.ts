import { readEvents, type Lesson } from './api/events';
import { Refused, request } from './api/request';
import { Backoff } from './whep/backoff';
import { takeSlot } from './whep/slots';
import { AccessDenied } from './whep/types';

/** The server says something every ten seconds; a connection that is silent for longer leads nowhere. */
const SILENCE_MAX_MS = 25_000;
/** How often a server is asked that does not tell, for it tells as many as it can. */
const ASK_AGAIN_MS = 4_000;
/** What was said longer ago is no news. */
const ASK_AGAIN_MAX_MS = 15_000;
/** A class of this many and more asks as often as so many. */
const ASKING_AT_ONCE = 60;
/** Pages whose events end together do not ask again together. */
const SPREAD_MS = 500;

/** As the server says it: there are too many that are told. */
const NO_SLOT = new Refused(503, 'busy', undefined);

/** What the page that is told does. */
export interface FeedListener {
  /** With what has to be added to the server's times. */
  onLesson(lesson: Lesson, skewMs: number | undefined): void;
  /** Whether what was said last is what the server says now. */
  onFresh(isFresh: boolean): void;
  /** The server does not take the token. */
  onRefused(): void;
  /** There is no access; it is not asked again by itself. */
  onDenied(): void;
}

/** The lesson of a class, as the server tells it while the page is open. */
export class LessonFeed {
  #retrying = new Backoff(250, 4_000);
  #abort: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isFresh = false;
  #hasHeard = false;
  /** When the server said something last, if only that nothing has changed. */
  heardAt: number | undefined;

  constructor(
    private readonly className: string,
    /** The headers that say who asks. */
    private readonly headers: () => Promise<Record<string, string>>,
    private readonly listener: FeedListener,
  ) {}

  start(): void {
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    void this.#follow(abort.signal);
  }

  stop(): void {
    this.#abort?.abort();
    clearTimeout(this.#timer);
    this.#fresh(false);
  }

  /** The network is there again: there is no need to wait any longer. */
  retryNow(): void {
    if (!this.#isFresh && this.#abort?.signal.aborted === false) this.start();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const giveBack = await takeSlot(location.host);
      this.#hasHeard = false;
      const asked = giveBack === undefined ? Promise.reject(NO_SLOT) : this.#listen(signal);
      let error = await asked.catch((error: unknown) => error).finally(giveBack);
      if (signal.aborted) return;
      if (error === undefined) {
        // It ends them from time to time, and when it is about to end itself.
        await this.#pause(this.#hasHeard ? Math.random() * SPREAD_MS : this.#retrying.next());
        continue;
      }
      if (error instanceof Refused && error.status === 503 && error.code === NO_SLOT.code) {
        error = await this.#ask(signal).then(
          () => undefined,
          (error: unknown) => error,
        );
        if (signal.aborted) return;
        if (error === undefined) continue;
      }
      this.#fresh(false);
      // Whoever asks for access is told why there is none; nobody tries the same PIN again and again.
      if (error instanceof AccessDenied) return this.listener.onDenied();
      if (error instanceof Refused && (error.status === 401 || error.status === 403))
        this.listener.onRefused();
      await this.#pause(this.#retrying.next(error instanceof Refused ? error.retryAfterMs : undefined));
    }
  }

  async #listen(signal: AbortSignal): Promise<void> {
    const headers = await this.headers();
    signal.throwIfAborted();
    const silence = new AbortController();
    const stop = (): void => silence.abort();
    signal.addEventListener('abort', stop);
    let watchdog = setTimeout(stop, SILENCE_MAX_MS);
    const onSign = (): void => {
      this.heardAt = Date.now();
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, SILENCE_MAX_MS);
    };
    const onEvent = (name: string, data: string): void => {
      if (name !== 'status') return;
      this.#retrying.reset();
      this.#hasHeard = true;
      this.#fresh(true);
      const lesson = JSON.parse(data) as Lesson & { now_ms: number };
      this.listener.onLesson(lesson, Date.now() - lesson.now_ms);
    };
    const url = `/api/v1/events?class=${encodeURIComponent(this.className)}`;
    try {
      await readEvents(url, headers, silence.signal, onEvent, onSign);
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', stop);
    }
  }

  /** Asks, where as many are told as can be; the next time it may be told. */
  async #ask(signal: AbortSignal): Promise<void> {
    const headers = await this.headers();
    signal.throwIfAborted();
    const response = await request(`/api/v1/streams/${encodeURIComponent(this.className)}`, { headers });
    signal.throwIfAborted();
    this.heardAt = Date.now();
    let crowd = 1;
    if (response.ok) {
      const found = (await response.json()) as Omit<Lesson, 'state' | 'name' | 'since_ms'> & Found;
      crowd = Math.max(1, found.viewers / ASKING_AT_ONCE);
      signal.throwIfAborted();
      this.#retrying.reset();
      this.#fresh(true);
      this.listener.onLesson({ ...found, name: '', since_ms: null, state: stateOf(found) }, undefined);
    } else if (response.status === 404) {
      const { code } = await Refused.from(response);
      signal.throwIfAborted();
      this.#fresh(true);
      const size = { width: 0, height: 0, bitrate_bps: 0 };
      const nothing = {
        ...size,
        has_video: false,
        has_audio: false,
        viewers: 0,
        problems: [],
        since_ms: null,
      };
      this.listener.onLesson(
        { ...nothing, class: this.className, name: '', state: code === 'no_class' ? 'removed' : 'offline' },
        undefined,
      );
    } else {
      throw await Refused.from(response);
    }
    await this.#pause(Math.min(ASK_AGAIN_MAX_MS, ASK_AGAIN_MS * crowd) * (0.7 + 0.6 * Math.random()));
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(resolve, ms);
    });
  }

  #fresh(isFresh: boolean): void {
    if (isFresh === this.#isFresh) return;
    this.#isFresh = isFresh;
    this.listener.onFresh(isFresh);
  }
}

interface Found {
  state: 'starting' | 'active' | 'grace';
  is_ended: boolean;
}

function stateOf({ state, is_ended }: Found): Lesson['state'] {
  if (state === 'active') return 'live';
  if (state === 'starting') return 'starting';
  return is_ended ? 'ended' : 'reconnecting';
}
