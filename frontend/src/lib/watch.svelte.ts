import { REPORT_MS, reportOf } from './beacon';
import type { Lesson } from './api/events';
import { readPin } from './api/pin';
import { Refused } from './api/request';
import { endpoint, headersOf, nodeOf, ownUserId, requestToken, type Token } from './api/token';
import { LessonFeed } from './feed';
import { isSilent, sceneOf } from './scene';
import { Player } from './whep/player';
import type { Reason } from './whep/reason';
import { picturelessOf, type Pictureless, type Stats } from './whep/stats';
import { AccessDenied, type Access, type Complaint, type State, type Still } from './whep/types';

/** A token is renewed when this much of its life is left. */
const TOKEN_SPARE_MS = 600_000;
/** Until another PIN may be tried, if the server does not say it. */
const PIN_WAIT_MS = 10_000;

const CONTENT: Complaint = { isTokenRefused: false, isNodeLost: false };

/** A teacher, who follows his own lesson. */
export interface Teacher {
  streamKey(): string;
  onLesson(lesson: Lesson): void;
  /** The server does not take the key. */
  onRefused(): void;
}

/** A delay that is not between these is a clock that is wrong. */
const DELAY_MAX_MS = 60_000;

/** So many readings are five seconds. */
const DELAYS = 15;
/** Clocks are set, and run apart: of so many events the one that came fastest tells the difference. */
const SKEWS = 12;
/** What comes for so long although the server says that nothing does is there all the same. */
const PLAYS_ON_MS = 2000;
/** Without anything new for this long it has stopped. */
const STOPPED_MS = 1200;

/** Watching one class: the player, and what the page shows of it. */
export class WatchController {
  state = $state<State>('starting');
  reason = $state<Reason | undefined>();
  stats = $state<Stats | undefined>();
  stream = $state<MediaStream | undefined>();
  takesPicture = $state(true);
  /** Where other players watch this class without a token. */
  openUrl = $state<string | undefined>();
  latency = $state<'smooth' | 'low'>('smooth');
  /** What the server said of the lesson last, and whether it can be heard. */
  lesson = $state<Lesson | undefined>();
  isFresh = $state(false);
  still = $state<Still>('no');
  /** The name of the class for people, once it is known. */
  title = $state('');
  /** There is a picture that was shown last. */
  isPictureKept = $state(false);
  /** How a lesson that is no more came to its end. */
  end = $state<'ended' | 'away' | undefined>();
  /** What has to be added to the server's times. */
  skewMs = $state(0);
  /** When the server was heard last, once it cannot be heard any more. */
  heardAt = $state<number | undefined>();
  #playsOn = $state(false);
  pictureless = $derived(this.#pictureless());
  scene = $derived(
    sceneOf({
      state: this.state,
      reason: this.reason,
      still: this.still,
      pictureless: this.pictureless,
      lesson: this.lesson,
      isFresh: this.isFresh,
      end: this.end,
      skewMs: this.skewMs,
      playsOn: this.#playsOn,
    }),
  );
  viewers = $derived(this.isFresh && this.lesson?.state === 'live' ? this.lesson.viewers : undefined);
  /** What the server finds wrong with what the teacher's app sends. Nothing is shown that may not be true any more. */
  problems = $derived({ texts: this.isFresh ? (this.lesson?.problems.map(({ text }) => text) ?? []) : [] });
  needsPin = $derived(this.state === 'denied' && this.reason?.startsWith('pin_') === true);
  /** Seconds until another PIN may be tried. */
  pinWaitS = $state(0);
  readonly player: Player;
  /** How far behind the server is what is shown, if that is known. */
  delayMs = $state<number | undefined>();
  /** Whether the element plays, and with sound; the page says it. */
  isPaused = (): boolean => false;
  isMuted = (): boolean => false;
  readonly #feed: LessonFeed;
  #delays: number[] = [];
  #skews: number[] = [];
  /** When the server began to say of the lesson what it says, and since when pictures or sound have come without a stop. */
  #otherwiseAt = 0;
  #comesSince = 0;
  #cameAt = 0;
  #startedAt = 0;
  #firstPictureMs: number | undefined;
  #reporting: ReturnType<typeof setInterval> | undefined;
  #reported: Stats | undefined;
  #isFollowing = false;
  #asking: Promise<Token> | undefined;
  /** With the node that it leads to, where that is known. */
  #token: (Token & { until: number; node: string | undefined }) | undefined;
  #pin: string | undefined;
  #pinWait: ReturnType<typeof setInterval> | undefined;
  readonly #userId = ownUserId(() => localStorage);

  constructor(
    readonly className: string,
    private readonly teacher?: Teacher,
  ) {
    this.title = className;
    this.#feed = new LessonFeed(className, () => this.#headers(), {
      onLesson: (lesson, skewMs) => this.#onLesson(lesson, skewMs),
      onFresh: (isFresh) => {
        this.isFresh = isFresh;
        // Meanwhile he may have come back.
        if (!isFresh && this.end === 'away') this.end = undefined;
        this.heardAt = this.#feed.heardAt;
        this.#expect();
      },
      onRefused: () => {
        if (this.teacher !== undefined) return this.teacher.onRefused();
        this.#token = undefined;
        if (this.state === 'waiting') this.player.reconnect();
      },
      onDenied: () => {
        this.#isFollowing = false;
      },
    });
    this.player = new Player((complaint) => this.#access(complaint), {
      onState: (state, reason) => {
        this.state = state;
        this.reason = reason;
        if (state === 'denied' && this.teacher === undefined) this.#unfollow();
      },
      onStill: (still) => {
        this.still = still;
      },
      onStream: (stream, takesPicture) => {
        this.stream = stream;
        this.takesPicture = takesPicture;
        this.#setBuffer();
      },
      onMoved: (url) => {
        // It names the node that the viewer comes from.
        if (this.#token !== undefined) this.#token = { ...this.#token, webrtc_url: url, node: undefined };
      },
      onStats: (stats) => {
        this.#noteProgress(stats);
        this.stats = stats;
        this.#noteDelay(stats);
        if (stats.frames === 0) return;
        this.isPictureKept = true;
        this.#firstPictureMs ??= performance.now() - this.#startedAt;
      },
    });
  }

  /** The network is there again. */
  readonly #onOnline = (): void => this.#feed.retryNow();

  start(): void {
    addEventListener('online', this.#onOnline);
    this.#startedAt = performance.now();
    this.#firstPictureMs = undefined;
    this.#reporting = setInterval(() => this.#report(), REPORT_MS);
    this.player.start();
  }

  /** Follows the lesson of a teacher; the player is started by whoever shows the picture. */
  follow(): void {
    addEventListener('online', this.#onOnline);
    this.#follow();
  }

  stop(): void {
    clearInterval(this.#pinWait);
    this.pinWaitS = 0;
    removeEventListener('online', this.#onOnline);
    clearInterval(this.#reporting);
    this.player.stop();
    this.#unfollow();
    this.state = 'starting';
  }

  /** Tries a PIN, unless no class can have it or the server would not look at it yet. */
  usePin(entered: string): void {
    if (this.pinWaitS > 0) return;
    const pin = readPin(entered);
    if (pin === undefined || pin === '') {
      this.reason = pin === '' ? 'pin_needed' : 'pin_unusable';
      return;
    }
    this.#pin = pin;
    this.player.reconnect();
  }

  /** The server sends the request for no delay in every packet, so a change needs a new session. */
  setLatency(latency: 'smooth' | 'low'): void {
    if (latency === this.latency) return;
    this.latency = latency;
    this.player.reconnect();
  }

  #onLesson(lesson: Lesson, skewMs: number | undefined): void {
    const before = this.lesson?.state;
    this.lesson = lesson;
    // Whatever comes late seems to say that this clock is ahead.
    if (skewMs !== undefined) {
      this.#skews = [...this.#skews.slice(1 - SKEWS), skewMs];
      this.skewMs = Math.min(...this.#skews);
    }
    if (before !== lesson.state) this.#otherwiseAt = performance.now();
    if (lesson.name !== '') this.title = lesson.name;
    if (lesson.state === 'ended') this.end = 'ended';
    else if (lesson.state === 'reconnecting') this.end = 'away';
    else if (lesson.state !== 'offline') this.end = undefined;
    this.#expect();
    if (this.teacher !== undefined) return this.teacher.onLesson(lesson);
    if (lesson.state !== 'removed' || before === 'removed') return;
    // Whoever asks for a token now learns why there is none.
    this.#token = undefined;
    this.player.reconnect();
  }

  /** A server that does not hear a node says that its teacher is away; what plays here is true. */
  #noteProgress({ frames, audioPackets }: Stats): void {
    const now = performance.now();
    const isMore = frames > (this.stats?.frames ?? 0) || audioPackets > (this.stats?.audioPackets ?? 0);
    if (now - this.#cameAt > STOPPED_MS) this.#comesSince = now;
    if (isMore) this.#cameAt = now;
    const hasStopped = now - this.#cameAt > STOPPED_MS;
    this.#playsOn = !hasStopped && now - Math.max(this.#otherwiseAt, this.#comesSince) > PLAYS_ON_MS;
  }

  /** By the server's clock; the middle of the last seconds, for players guess. */
  #noteDelay({ shownFromMs }: Stats): void {
    if (shownFromMs === undefined || !this.isFresh || this.#skews.length === 0) {
      this.delayMs = undefined;
      return;
    }
    this.#delays = [...this.#delays.slice(1 - DELAYS), Date.now() - this.skewMs - shownFromMs];
    const middle = [...this.#delays].sort((a, b) => a - b)[this.#delays.length >> 1] ?? 0;
    this.delayMs = middle >= 0 && middle <= DELAY_MAX_MS ? middle : undefined;
  }

  /** Says to the node what is seen and heard here, for the teacher. */
  #report(): void {
    const { stats } = this;
    if (this.state !== 'live' || stats === undefined) return;
    // Another session counts from the beginning.
    const before =
      this.#reported !== undefined &&
      this.#reported.packets <= stats.packets &&
      this.#reported.frames <= stats.frames &&
      this.#reported.audioPackets <= stats.audioPackets
        ? this.#reported
        : undefined;
    this.player.report(
      reportOf(before, stats, {
        isVisible: document.visibilityState === 'visible' || document.pictureInPictureElement != null,
        isPaused: this.isPaused(),
        isMuted: this.isMuted(),
        delayMs: this.delayMs,
        firstPictureMs: this.#reported === undefined ? this.#firstPictureMs : undefined,
      }),
    );
    this.#reported = stats;
  }

  /** The server knows whether the lesson has a picture; this page, whether one comes. */
  #pictureless(): Pictureless | undefined {
    const seen = this.stats && picturelessOf(this.stats, this.takesPicture);
    if (!this.isFresh || this.lesson?.state !== 'live') return seen;
    if (!this.lesson.has_video && this.lesson.has_audio && this.state === 'live') return 'soundOnly';
    return this.lesson.has_video && seen === 'soundOnly' ? 'notShown' : seen;
  }

  #expect(): void {
    const lesson = this.isFresh ? this.lesson : undefined;
    this.player.expect(lesson && { isLive: lesson.state === 'live', isSilent: isSilent(lesson) });
  }

  /** Begins to follow the lesson, once there is a token. */
  #follow(): void {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    this.#feed.start();
  }

  #unfollow(): void {
    this.#isFollowing = false;
    this.#feed.stop();
  }

  #setBuffer(): void {
    for (const receiver of this.player.peerConnection?.getReceivers() ?? []) {
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = this.latency === 'low' ? 0 : null;
    }
  }

  async #headers(): Promise<Record<string, string>> {
    if (this.teacher !== undefined) return headersOf({ streamKey: this.teacher.streamKey() });
    const { token } = await this.#access(CONTENT);
    return { Authorization: `Bearer ${token}` };
  }

  async #access({ isTokenRefused, isNodeLost }: Complaint): Promise<Access> {
    const isOld = isTokenRefused || isNodeLost;
    if (this.#token === undefined || isOld || Date.now() > this.#token.until) {
      const node = this.#token?.node;
      this.#asking ??= this.#requestToken(isNodeLost ? { exclude: node } : { hint: node });
      const token = await this.#asking.finally(() => (this.#asking = undefined));
      this.openUrl = token.openUrl;
      const until = Date.now() + token.expires_in * 1000 - TOKEN_SPARE_MS;
      this.#token = { ...token, until, node: nodeOf(token) };
    }
    this.#follow();
    return { url: endpoint(this.#token.webrtc_url, this.latency), token: this.#token.token };
  }

  /** Where no other node is, the one that seemed lost is the best there is. */
  async #requestToken(place: { hint?: string | undefined; exclude?: string | undefined }): Promise<Token> {
    const proof = { pin: this.#pin, streamKey: this.teacher?.streamKey() };
    const request = (at: typeof place): Promise<Token> =>
      requestToken(this.className, this.#userId, proof, at);
    const isElsewhere = place.exclude !== undefined;
    try {
      return await request(place).catch((error: unknown) => {
        if (isElsewhere && error instanceof Refused && error.status === 503) return request({});
        throw error;
      });
    } catch (error) {
      throw this.#denied(error) ?? error;
    }
  }

  /** What only a person can change; everything else is tried again. */
  #denied(error: unknown): AccessDenied | undefined {
    if (!(error instanceof Refused)) return undefined;
    const { status, code } = error;
    if (code === 'no_class') return new AccessDenied('unknown_class');
    if (status === 401) return new AccessDenied(code === 'pin_wrong' ? 'pin_wrong' : 'pin_needed');
    if (status === 403) {
      this.teacher?.onRefused();
      return new AccessDenied('forbidden');
    }
    if (code !== 'pin_attempts') return undefined;
    this.#waitForPin(error.retryAfterMs ?? PIN_WAIT_MS);
    return new AccessDenied('pin_attempts');
  }

  #waitForPin(waitMs: number): void {
    const until = Date.now() + waitMs;
    const look = (): void => {
      this.pinWaitS = Math.max(0, Math.ceil((until - Date.now()) / 1000));
      if (this.pinWaitS > 0) return;
      clearInterval(this.#pinWait);
      if (this.reason === 'pin_attempts') this.reason = 'pin_again';
    };
    clearInterval(this.#pinWait);
    this.#pinWait = setInterval(look, 1000);
    look();
  }
}
