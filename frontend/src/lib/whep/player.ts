import { Backoff } from './backoff';
import { readStats, type Stats } from './stats';
import { Refused, WhepSession } from './session';

/** Where the player is, for people. */
export type State = 'starting' | 'waiting' | 'connecting' | 'live' | 'reconnecting' | 'denied' | 'ended';

/** Why, where that helps. */
export type Reason = 'unknown_class' | 'pin' | 'forbidden' | 'server' | 'full' | 'network';

/** Where to watch, and with what. */
export interface Access {
  url: string;
  token: string;
}

/** Asking for access was refused for good, or until somebody does something. */
export class AccessDenied extends Error {
  constructor(readonly reason: Reason) {
    super(reason);
  }
}

/** What the player tells its page. */
export interface Listener {
  onState(state: State, reason: Reason | undefined): void;
  onStream(stream: MediaStream): void;
  onStats(stats: Stats): void;
}

/** `disconnected` may heal by itself within this time; then ICE is restarted. */
const DISCONNECTED_MS = 4000;
/** How often statistics are read. */
const STATS_MS = 1000;
/** No new picture or sound for this long means that the session is dead, whatever it says of itself. */
const STALL_MS = 6000;
/** From the answer to the first picture. */
const CONNECT_MS = 10_000;

/** Watches a class for as long as the page lives: through waits, drops and restarts of the server. */
export class Player {
  #session: WhepSession | undefined;
  #state: State = 'starting';
  #timers = new Set<ReturnType<typeof setTimeout>>();
  #waiting = new Backoff(1000, 15_000);
  #retrying = new Backoff(500, 15_000);
  #stats: Stats | undefined;
  #progressAt = 0;
  #isStopped = false;
  #wasLive = false;

  constructor(
    readonly access: (isRefused: boolean) => Promise<Access>,
    readonly listener: Listener,
  ) {}

  get peerConnection(): RTCPeerConnection | undefined {
    return this.#session?.pc;
  }

  start(): void {
    this.#isStopped = false;
    void this.#connect(false);
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

  async #connect(isTokenRefused: boolean): Promise<void> {
    this.#drop();
    if (this.#state !== 'waiting') this.#enter(this.#wasLive ? 'reconnecting' : 'connecting');
    let access: Access;
    try {
      access = await this.access(isTokenRefused);
    } catch (error) {
      if (error instanceof AccessDenied) return this.#onDenied(error.reason);
      return this.#retry('server');
    }
    if (this.#isStopped) return;
    const session = new WhepSession((state) => this.#onConnectionState(session, state));
    this.#session = session;
    try {
      await session.open(access.url, access.token);
    } catch (error) {
      if (session !== this.#session) return session.close();
      return this.#onRefused(error, isTokenRefused);
    }
    if (session !== this.#session) return session.close();
    this.#waiting.reset();
    if (this.#state === 'waiting') this.#enter('connecting');
    this.listener.onStream(session.stream);
    this.#progressAt = performance.now() + CONNECT_MS - STALL_MS;
    this.#after(STATS_MS / 4, () => void this.#watch(session));
  }

  #onRefused(error: unknown, isTokenRefused: boolean): void {
    if (!(error instanceof Refused)) return this.#retry('server');
    const { status, retryAfterMs } = error;
    if (status === 401 && !isTokenRefused) return void this.#connect(true);
    if (status === 401 || status === 403) return this.#onDenied('forbidden');
    if (status === 404 || status === 409 || status === 425) {
      this.#drop();
      this.#enter('waiting');
      return this.#after(this.#waiting.next(retryAfterMs), () => void this.#connect(false));
    }
    this.#retry(status === 503 ? 'full' : 'server', retryAfterMs);
  }

  #onDenied(reason: Reason): void {
    this.#drop();
    this.#enter('denied', reason);
  }

  #retry(reason: Reason, retryAfterMs?: number): void {
    this.#drop();
    if (this.#isStopped) return;
    this.#enter('reconnecting', reason);
    this.#after(this.#retrying.next(retryAfterMs), () => void this.#connect(false));
  }

  #onConnectionState(session: WhepSession, state: RTCPeerConnectionState): void {
    if (session !== this.#session) return;
    if (state === 'failed' || state === 'closed') return this.#retry(this.#wasLive ? 'server' : 'network');
    if (state !== 'disconnected') return;
    this.#after(DISCONNECTED_MS, () => {
      if (session !== this.#session || session.pc.connectionState !== 'disconnected') return;
      // A server that has forgotten the session answers 404: then a new one.
      session.restartIce().catch(() => session === this.#session && this.#retry('server'));
    });
  }

  /** Whatever the states say: pictures or sound must arrive. */
  async #watch(session: WhepSession): Promise<void> {
    const report = await session.pc.getStats();
    if (session !== this.#session) return;
    const before = this.#stats;
    const stats = readStats(report as unknown as Map<string, Record<string, unknown>>, before);
    this.#stats = stats;
    this.listener.onStats(stats);
    const now = performance.now();
    if (stats.frames > (before?.frames ?? 0) || stats.audioPackets > (before?.audioPackets ?? 0)) {
      this.#progressAt = now;
      if (stats.frames > 0 || session.stream.getVideoTracks().length === 0 || stats.audioPackets > 50) {
        this.#wasLive = true;
        this.#retrying.reset();
        this.#enter('live');
      }
    } else if (now - this.#progressAt > STALL_MS) {
      return this.#retry(session.pc.connectionState === 'connected' ? 'server' : 'network');
    }
    this.#after(stats.frames > 0 ? STATS_MS : STATS_MS / 4, () => void this.#watch(session));
  }

  #enter(state: State, reason?: Reason): void {
    if (this.#isStopped && state !== 'ended') return;
    this.#state = state;
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
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#session?.close();
    this.#session = undefined;
    this.#stats = undefined;
  }
}
