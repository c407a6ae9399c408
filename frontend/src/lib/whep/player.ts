import { Refused } from '../api/request';
import { Backoff } from './backoff';
import { isGone, reasonOf, type Reason } from './reason';
import { WhepSession } from './session';
import { readStats, SOUND_ALONE_PACKETS, type Stats } from './stats';
import {
  AccessDenied,
  type Access,
  type Complaint,
  type Expected,
  type Listener,
  type State,
  type Still,
} from './types';

/** `disconnected` may heal by itself within this time; then ICE is restarted. */
const DISCONNECTED_MS = 4000;
/** How often statistics are read. */
const STATS_MS = 1000;
/** What varies is told of the last so long. */
const RECENT_MS = 5000;
/** No new picture or sound for this long is told. */
const STILL_MS = 1200;
/** For this long it means that the session is dead, whatever it says of itself. */
const STALL_MS = 6000;
/** After this long without anything new the node is asked whether it still has the session. */
const DOUBT_MS = 2000;
/** From the answer to the first picture. */
const CONNECT_MS = 10_000;
/** Until the server is asked again to say where to go on. */
const LISTEN_MS = 10_000;
/** Until a node is asked again that does not know yet of a lesson that has begun, and how often. */
const NOT_YET_MS = 300;
const NOT_YET_MAX = 5;
/** Within this time pages come back to a server that is there again. */
const AGAIN_MS = 500;
/** After so many answers that there is no lesson the server is asked anew where it would be. */
const WAITS_MAX = 6;
/** What a server says that has no place: another may. */
const LOST_CODES: ReadonlySet<string | undefined> = new Set(['node_draining', 'node_full']);

/** Watches a class for as long as the page lives: through waits, drops and restarts of the server. */
export class Player {
  #session: WhepSession | undefined;
  #state: State = 'starting';
  #reason: Reason | undefined;
  #timers = new Set<ReturnType<typeof setTimeout>>();
  /** While nobody says when the lesson begins. */
  #waiting = new Backoff(2000, 2000);
  #retrying = new Backoff(500, 15_000);
  #stats: Stats | undefined;
  /** Those of the last seconds. */
  #recent: Stats[] = [];
  #progressAt = 0;
  /** When something new came last. */
  #grewAt = 0;
  #doubtedAt = 0;
  #isStopped = false;
  #wasLive = false;
  /** What the page was given last. */
  #isSoundOnly: boolean | undefined;
  /** A session on its way that is to take over from the one that plays. */
  #next: WhepSession | undefined;
  #shown: MediaStream | undefined;
  #hasDoubt = false;
  /** WHEP has refused the last token. */
  #isTokenRefused = false;
  #isNodeLost = false;
  /** Nothing while it is not known. */
  #expected: Expected | undefined;
  #still: Still = 'no';
  /** Answers in a row that there is no lesson. */
  #waits = 0;
  /** Grows with each try, so that what an earlier one waited for changes nothing any more. */
  #attempt = 0;

  constructor(
    readonly access: (complaint: Complaint) => Promise<Access>,
    readonly listener: Listener,
  ) {}

  get peerConnection(): RTCPeerConnection | undefined {
    return this.#session?.pc;
  }

  /** Says to the node how it goes. */
  report(body: unknown): void {
    this.#session?.report(body);
  }

  start(): void {
    this.#isStopped = false;
    // A browser can be built or set up without WebRTC; then no server can help.
    if (typeof RTCPeerConnection === 'undefined') return this.#onDenied('browser');
    void this.#connect();
  }

  /** Ends everything, also on the server. */
  stop(): void {
    this.#isStopped = true;
    this.#drop();
  }

  /** Begins a new session at once, with other settings for instance. */
  reconnect(): void {
    this.#drop();
    this.start();
  }

  /** The server says what there is to see, or nothing any more. A lesson that begins is joined at once. */
  expect(expected: Expected | undefined): void {
    const before = this.#expected;
    this.#expected = expected;
    if (this.#isStopped) return;
    const hasBegun = expected?.isLive === true && before?.isLive !== true;
    // What was not to come could not be late.
    if (hasBegun || (before?.isSilent === true && expected?.isSilent !== true)) {
      this.#progressAt = Math.max(this.#progressAt, performance.now());
    }
    if (this.#state === 'waiting' && (hasBegun || (expected === undefined && before !== undefined))) {
      void this.#connect();
    }
    const isAway = this.#reason === undefined || this.#reason === 'server' || this.#reason === 'network';
    if (this.#state === 'reconnecting' && isAway && before === undefined && expected?.isLive === true) {
      // The server can be heard again; not all of its pages come at the same moment.
      this.#retrying.reset();
      this.#drop();
      this.#after(Math.random() * AGAIN_MS, () => void this.#connect());
    }
  }

  async #connect(): Promise<void> {
    this.#drop();
    const attempt = this.#attempt;
    // What it said before stays true until something else is known.
    if (this.#state !== 'waiting' && this.#state !== 'reconnecting') this.#enter('connecting');
    let access: Access;
    try {
      const isTokenRefused = this.#isTokenRefused || this.#waits >= WAITS_MAX;
      access = await this.access({ isTokenRefused, isNodeLost: this.#isNodeLost });
    } catch (error) {
      if (attempt !== this.#attempt) return;
      if (error instanceof AccessDenied) return this.#onDenied(error.reason);
      return this.#onFailed(error);
    }
    if (attempt !== this.#attempt) return;
    this.#isNodeLost = false;
    if (this.#waits >= WAITS_MAX) this.#waits = 0;
    const session = new WhepSession((state) => this.#onConnectionState(session, state));
    this.#session = session;
    try {
      await session.open(access.url, access.token);
    } catch (error) {
      if (session !== this.#session) return session.close();
      return this.#onRefused(error);
    }
    if (session !== this.#session) return session.close();
    this.#listen(session);
    this.#onAnswered();
    this.#isSoundOnly = undefined;
    this.#give(session, false);
    this.#progressAt = performance.now() + CONNECT_MS - STALL_MS;
    this.#after(STATS_MS / 4, () => void this.#watch(session));
  }

  /** The server may want a session to go on elsewhere; one that cannot say so is cut off at the end. */
  #listen(session: WhepSession): void {
    const again = (): void => {
      if (session === this.#session) this.#after(LISTEN_MS, () => this.#listen(session));
    };
    session.listen((url) => void this.#move(session, url), again).catch(again);
  }

  /** Opens a session at another endpoint and takes it over when its first picture is there: nobody sees a gap. */
  async #move(from: WhepSession, url: string): Promise<void> {
    if (from !== this.#session || this.#next !== undefined) return;
    const isSoundOnly = this.#isSoundOnly === true;
    const next = new WhepSession((state) => this.#onConnectionState(next, state));
    this.#next = next;
    // The token of the join may be too old by now.
    const isThere = await this.access({ isTokenRefused: false, isNodeLost: false })
      .then(({ token }) => next.open(keepQuery(url, from.endpoint), token))
      .then(() => next.firstFrame(CONNECT_MS, isSoundOnly))
      .catch(() => false);
    if (this.#next === next) this.#next = undefined;
    // The server says again where to go if this did not work.
    if (!isThere || from !== this.#session) return next.close();
    this.#session = next;
    this.#stats = undefined;
    this.#recent = [];
    this.#progressAt = performance.now();
    this.#listen(next);
    this.#give(next, isSoundOnly, true);
    this.listener.onMoved(url);
    from.close();
    this.#after(STATS_MS / 4, () => void this.#watch(next));
  }

  #onAnswered(): void {
    this.#isTokenRefused = false;
    this.#waits = 0;
    this.#waiting.reset();
    // An answer does not mean that media comes.
    if (this.#reason === 'network' || this.#reason === 'silent' || this.#reason === 'browser') return;
    this.#enter(this.#wasLive && this.#state === 'reconnecting' ? 'reconnecting' : 'connecting');
  }

  #onRefused(error: unknown): void {
    if (!(error instanceof Refused)) return this.#onFailed(error);
    const isTokenRefused = error.status === 401 || error.status === 403;
    const isFirst = isTokenRefused && !this.#isTokenRefused;
    this.#isTokenRefused = isTokenRefused;
    if (isFirst) return void this.#connect();
    // Who may watch is decided where tokens are given; a node that does not know its keys yet learns them.
    if (isTokenRefused) return this.#retry('token', error.retryAfterMs);
    if (LOST_CODES.has(error.code) || isGone(error)) this.#isNodeLost = true;
    if (error.status !== 409) return this.#onFailed(error);
    this.#waits += 1;
    const isSoon = this.#expected?.isLive === true && this.#waits <= NOT_YET_MAX;
    this.#wait(isSoon ? NOT_YET_MS : this.#waiting.next(error.retryAfterMs));
  }

  /** Until the server says that the lesson begins; it is asked again where it does not say so. */
  #wait(ms: number): void {
    this.#drop();
    this.#enter('waiting');
    if (this.#expected?.isLive !== false) this.#after(ms, () => void this.#connect());
  }

  #onFailed(error: unknown): void {
    // An access that was given and leads nowhere.
    if (!(error instanceof Refused) && this.#session !== undefined) this.#isNodeLost = true;
    this.#retry(reasonOf(error), error instanceof Refused ? error.retryAfterMs : undefined);
  }

  #onDenied(reason: Reason): void {
    this.#drop();
    this.#enter('denied', reason);
  }

  #retry(reason: Reason | undefined, retryAfterMs?: number): void {
    if (this.#isStopped) return this.#drop();
    // There is nothing to come back to.
    if (this.#expected?.isLive === false) return this.#wait(0);
    this.#drop();
    this.#enter('reconnecting', reason);
    this.#after(this.#retrying.next(retryAfterMs), () => void this.#connect());
  }

  #onConnectionState(session: WhepSession, state: RTCPeerConnectionState): void {
    if (session !== this.#session) return;
    if (state === 'failed' || state === 'closed') return this.#onCutOff();
    if (state !== 'disconnected') return;
    this.#after(DISCONNECTED_MS, () => {
      if (session !== this.#session || session.pc.connectionState !== 'disconnected') return;
      // A server that has forgotten the session answers 404: then a new one.
      session.restartIce().catch((error: unknown) => {
        if (session === this.#session) this.#retry(error instanceof Refused ? undefined : 'server');
      });
    });
  }

  /** There is no way to the server's media: there was one if this session has played. */
  #onCutOff(): void {
    // The node ends a session whose lesson is over.
    if (this.#expected?.isLive !== false) this.#isNodeLost = true;
    this.#retry(this.#state === 'live' ? undefined : 'network');
  }

  /** Whatever the states say: pictures or sound must arrive. */
  async #watch(session: WhepSession): Promise<void> {
    const report = await session.pc.getStats();
    if (session !== this.#session) return;
    const before = this.#stats;
    const older = this.#recent[0];
    const stats = readStats(report as unknown as Map<string, Record<string, unknown>>, before, older);
    this.#stats = stats;
    this.#recent.push(stats);
    while ((this.#recent[1]?.atMs ?? stats.atMs) < stats.atMs - RECENT_MS) this.#recent.shift();
    this.listener.onStats(stats);
    const now = performance.now();
    if (stats.frames > (before?.frames ?? 0) || stats.audioPackets > (before?.audioPackets ?? 0)) {
      this.#progressAt = now;
      this.#grewAt = now;
      this.#hasDoubt = false;
      this.#setStill('no');
      const hasPicture = stats.frames > 0;
      const hasSoundAlone = this.#isSoundOnly === true || stats.audioPackets > SOUND_ALONE_PACKETS;
      const isSoundOnly = !hasPicture && (!session.takesPicture || hasSoundAlone);
      this.#give(session, isSoundOnly);
      if (hasPicture || isSoundOnly) {
        this.#wasLive = true;
        this.#retrying.reset();
        this.#enter('live');
      }
    } else if (this.#expected?.isLive === false || this.#expected?.isSilent === true) {
      // The session waits for the teacher, and nothing is live.
      this.#progressAt = now;
      this.#setStill('no');
      if (this.#state === 'live' && now - this.#grewAt > STILL_MS) this.#enter('connecting');
    } else if (now - this.#progressAt > STALL_MS) {
      // Connected means that the server answers checks: it has nothing to send, or nothing that is played here.
      const isUnplayed =
        (!session.takesPicture && stats.audioPackets === 0) || (stats.frames === 0 && stats.pictures > 0);
      return session.pc.connectionState === 'connected' && this.#still !== 'unreachable'
        ? this.#retry(isUnplayed ? 'browser' : 'silent')
        : this.#onCutOff();
    } else if (this.#state === 'live' && now - this.#progressAt > STILL_MS) {
      if (this.#still === 'no') this.#setStill('silent');
      if (now - Math.max(this.#progressAt, this.#doubtedAt) > DOUBT_MS && !this.#hasDoubt) {
        this.#hasDoubt = true;
        void this.#doubt(session);
      }
    }
    this.#after(STATS_MS / (stats.frames > 0 ? 3 : 4), () => void this.#watch(session));
  }

  /** Nothing comes: the teacher may be silent, or the node gone. */
  async #doubt(session: WhepSession): Promise<void> {
    const isKnown = await session.isKnown();
    if (session !== this.#session || isKnown === true || !this.#hasDoubt) return;
    if (isKnown === undefined && !(await this.#hasOtherAccess())) {
      // It is our own network: with its return the session goes on.
      if (session !== this.#session || !this.#hasDoubt) return;
      this.#hasDoubt = false;
      this.#doubtedAt = performance.now();
      this.#setStill('unreachable');
      return;
    }
    if (session === this.#session && this.#hasDoubt) this.#retry(undefined);
  }

  /** Whether there is access without this node; without a network there is none. */
  #hasOtherAccess(): Promise<boolean> {
    return this.access({ isTokenRefused: false, isNodeLost: true }).then(
      () => true,
      // Who refuses is there, and says why when it is asked for good.
      (error: unknown) => error instanceof Refused || error instanceof AccessDenied,
    );
  }

  /** Gives the page what there is to play, when that has changed. An element whose tracks change shows the last picture on. */
  #give(session: WhepSession, isSoundOnly: boolean, hasMoved = false): void {
    if (isSoundOnly === this.#isSoundOnly && !hasMoved) return;
    this.#isSoundOnly = isSoundOnly;
    const stream = isSoundOnly ? session.sound() : session.stream;
    if (!hasMoved || this.#shown === undefined) {
      this.#shown = stream;
    } else {
      const former = this.#shown.getTracks();
      for (const track of stream.getTracks()) this.#shown.addTrack(track);
      for (const track of former) this.#shown.removeTrack(track);
    }
    this.listener.onStream(this.#shown, session.takesPicture);
  }

  #setStill(still: Still): void {
    if (still === this.#still) return;
    this.#still = still;
    this.listener.onStill(still);
  }

  #enter(state: State, reason?: Reason): void {
    if (this.#isStopped) return;
    this.#state = state;
    this.#reason = reason;
    this.listener.onState(state, reason);
  }

  #after(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
  }

  #drop(): void {
    this.#attempt += 1;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#session?.close();
    this.#session = undefined;
    this.#next?.close();
    this.#next = undefined;
    this.#hasDoubt = false;
    this.#stats = undefined;
    this.#recent = [];
    this.#setStill('no');
  }
}

/** The address with what the former one had in its query. */
function keepQuery(url: string, former: string): string {
  const kept = new URL(url);
  for (const [key, value] of new URL(former).searchParams) kept.searchParams.set(key, value);
  return kept.href;
}
