import { SvelteMap } from 'svelte/reactivity';
import { request } from '../api/request';
import { Backoff } from '../whep/backoff';
import { headersOf } from './secret';

/** How often a lesson is asked for its picture, and for how many lessons that holds; more of them are asked less often. */
const EVERY_MS = 5_000;
const EVERY_COUNT = 40;
/** Requests at a time: browsers have six connections to a host, and live views need some. */
const AT_ONCE = 4;
/** From one request to the next: servers count how many come in a second. */
const APART_MS = 40;

/** A picture of a lesson. */
export interface Shot {
  blob: Blob;
  /** When it came. */
  atMs: number;
}

interface Source {
  isWanted: boolean;
  isBusy: boolean;
  dueAt: number;
  /** The node that has the pictures, with a token; it is good for an hour. */
  url: string | undefined;
  etag: string | undefined;
  retrying: Backoff;
}

/** The pictures of all lessons that are live and on the screen, each asked for now and then, never many at once. */
export class Snapshots {
  readonly shots = new SvelteMap<string, Shot>();
  readonly #sources = new Map<string, Source>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #busy = 0;
  #lastAt = -Infinity;
  #isPaused = false;

  constructor(
    private readonly secret: () => string | undefined,
    private readonly random: () => number = Math.random,
  ) {}

  /** Whether the picture of a class is to be kept up to date. */
  want(name: string, isWanted: boolean): void {
    const source = this.#sources.get(name) ?? {
      isWanted: false,
      isBusy: false,
      dueAt: 0,
      url: undefined,
      etag: undefined,
      retrying: new Backoff(1_000, 30_000),
    };
    if (source.isWanted === isWanted) return;
    source.isWanted = isWanted;
    this.#sources.set(name, source);
    this.#plan();
  }

  /** The lesson begins anew: what failed before may work. */
  renew(name: string): void {
    const source = this.#sources.get(name);
    if (source === undefined) return;
    source.retrying.reset();
    source.dueAt = 0;
    this.#plan();
  }

  /** There is no such class any more. */
  forget(name: string): void {
    this.#sources.delete(name);
    this.shots.delete(name);
  }

  /** While the page is not seen, nothing is asked. */
  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.#plan();
  }

  /** From one request for a lesson to the next. */
  #everyMs(): number {
    const wanted = [...this.#sources.values()].filter(({ isWanted }) => isWanted).length;
    return EVERY_MS * Math.max(1, wanted / EVERY_COUNT);
  }

  #plan(): void {
    clearTimeout(this.#timer);
    if (this.#isPaused || this.#busy >= AT_ONCE) return;
    const due = [...this.#sources].filter(([, { isWanted, isBusy }]) => isWanted && !isBusy);
    if (due.length === 0) return;
    const [name, source] = due.reduce((first, other) => (other[1].dueAt < first[1].dueAt ? other : first));
    const at = Math.max(source.dueAt, this.#lastAt + APART_MS);
    const waitMs = at - performance.now();
    if (waitMs > 0) this.#timer = setTimeout(() => this.#plan(), waitMs);
    else void this.#update(name, source);
  }

  async #update(name: string, source: Source): Promise<void> {
    this.#busy += 1;
    this.#lastAt = performance.now();
    source.isBusy = true;
    this.#plan();
    const isFirst = source.url === undefined;
    const isGood = await this.#ask(name, source).catch(() => false);
    this.#busy -= 1;
    source.isBusy = false;
    source.dueAt = performance.now() + this.#pauseMs(source, isGood, isFirst);
    if (!isGood) Object.assign(source, { url: undefined, etag: undefined });
    this.#plan();
  }

  /** All begin together, and are spread from the second request on. */
  #pauseMs(source: Source, isGood: boolean, isFirst: boolean): number {
    if (!isGood) return source.retrying.next();
    source.retrying.reset();
    return this.#everyMs() * (isFirst ? 0.5 + this.random() : 0.9 + 0.2 * this.random());
  }

  async #ask(name: string, source: Source): Promise<boolean> {
    const response = source.url === undefined ? await this.#find(name) : await again(source.url, source.etag);
    if (response.status === 304) return true;
    if (!response.ok) return false;
    const blob = await response.blob();
    source.url = response.url;
    source.etag = response.headers.get('ETag') ?? undefined;
    if (this.#sources.has(name)) this.shots.set(name, { blob, atMs: Date.now() });
    return true;
  }

  /** The coordinator sends us on to the node that has the picture. */
  async #find(name: string): Promise<Response> {
    const url = `/live/${encodeURIComponent(name)}/snapshot.mp4`;
    const response = await request(url, { headers: headersOf(this.secret()), cache: 'no-store' });
    // Older browsers take the header along to the node, which knows the token in the address only.
    if (response.status === 401 && response.redirected) return again(response.url, undefined);
    // A server that is open to everybody takes no secret that is wrong.
    if (response.status === 401 && this.secret() !== undefined) return request(url, { cache: 'no-store' });
    return response;
  }
}

function again(url: string, etag: string | undefined): Promise<Response> {
  const headers: Record<string, string> = etag === undefined ? {} : { 'If-None-Match': etag };
  return request(url, { headers, cache: 'no-store' });
}
