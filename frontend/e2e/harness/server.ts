import { existsSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Child } from './child';
import type { Host } from './namespaces';
import { until } from './until';

/** How long `lectern up` may take to open its ports, its first start with an empty database included. */
const READY_MS = 15_000;

/** The file that `--ready-file` names: where the server is and how to use it. */
interface Ready {
  http: string;
  rtmp: string;
  whep: string;
  media: string;
  admin: string;
  class: string;
  key: string;
  rtmp_url: string;
  watch_url: string;
}

/** The answer of `POST /api/token`. */
export interface Token {
  token: string;
  webrtc_url: string;
  expires_in: number;
  user_type: string;
  user_id: string;
  mode: string;
}

/** What is wrong with a stream: a name for programs and a sentence for the teacher. */
export interface Problem {
  code: string;
  text: string;
}

/** A stream as `GET /api/v1/streams/{class}` describes it; the fields that tests look at. */
export interface StreamStatus {
  class: string;
  state: 'starting' | 'active' | 'grace';
  viewers: number;
  problems: Problem[];
}

/** Where a server runs, when not on this machine's loopback interface. */
export interface Place {
  host?: Host;
  /** The address that it listens on. */
  bind?: string;
  /** The text of its `lectern.toml`. */
  config?: string;
  /** It asks everybody for the class's PIN. */
  isGuarded?: boolean;
  /** `coordinator`: without a node of its own. */
  command?: 'up' | 'coordinator';
}

/** `lectern up`, in open mode unless the test says otherwise, in a data directory of its own, on ports the kernel chose. */
export class Server {
  readonly #home = mkdtempSync(join(tmpdir(), 'lectern-e2e-'));
  readonly #place: Place;
  #process: Child | undefined;
  #ready: Ready | undefined;

  private constructor(place: Place) {
    this.#place = place;
  }

  static async start(place: Place = {}): Promise<Server> {
    const server = new Server(place);
    await server.#start();
    return server;
  }

  /** The directory with the database and the keys. */
  get dataDirectory(): string {
    return join(this.#home, 'data');
  }

  /** The PIN of its class. */
  get pin(): string {
    return readFileSync(join(this.dataDirectory, 'class-pin'), 'utf8').trim();
  }

  /** The program under test. */
  get binary(): string {
    return binary();
  }

  get process(): Child {
    if (this.#process === undefined) throw new Error('the server was never started');
    return this.#process;
  }

  get ready(): Ready {
    if (this.#ready === undefined) throw new Error('the server was never ready');
    return this.#ready;
  }

  /** Where the teacher's app publishes: the class in the path, the secret in the query. */
  get publishUrl(): string {
    return `${this.ready.rtmp_url}/${this.ready.class}?k=${this.ready.key}`;
  }

  /** The port of one of its services, wherever it listens. */
  port(service: 'http' | 'rtmp' | 'whep' | 'media' | 'admin'): number {
    return Number(this.ready[service].split(':').at(-1));
  }

  /** The same for apps that know only "URL" and "key". */
  get bareKeyUrl(): string {
    return `${this.ready.rtmp_url}/${this.ready.key}`;
  }

  async token(userId = 'e2e'): Promise<Token> {
    const query = new URLSearchParams({
      user_type: 'student',
      user_id: userId,
      class_id: this.ready.class,
      wait: '1',
    });
    const answer = await fetch(`http://${this.ready.http}/api/token?${query}`, { method: 'POST' });
    if (!answer.ok) throw new Error(`POST /api/token: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as Token;
  }

  /** The stream of the class, or `undefined` while nobody has published. */
  async stream(): Promise<StreamStatus | undefined> {
    const answer = await fetch(`http://${this.ready.http}/api/v1/streams/${this.ready.class}`);
    if (answer.status === 404) return undefined;
    if (!answer.ok) throw new Error(`GET /api/v1/streams: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as StreamStatus;
  }

  /** Waits until the class is live. */
  untilLive(): Promise<StreamStatus> {
    return until('a live stream', async () => {
      const stream = await this.stream();
      return stream?.state === 'active' ? stream : undefined;
    });
  }

  async classes(): Promise<unknown> {
    const secret = readFileSync(join(this.dataDirectory, 'operator-secret'), 'utf8').trim();
    const headers = { Authorization: `Bearer ${secret}` };
    const answer = await fetch(`http://${this.ready.http}/api/v1/classes`, { headers });
    if (!answer.ok) throw new Error(`GET /api/v1/classes: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** The secret for looking at every class. */
  get monitorSecret(): string {
    return readFileSync(join(this.dataDirectory, 'monitor-secret'), 'utf8').trim();
  }

  /** Makes a class, and returns where its teacher publishes. */
  async addClass(slug: string, name: string): Promise<string> {
    const made = await this.operate('POST', '/api/v1/classes', { slug, name });
    return `${this.ready.rtmp_url}/${slug}?k=${(made as { stream_key: string }).stream_key}`;
  }

  /** Asks as an operator, and returns the answer. */
  async operate(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<unknown> {
    const secret = readFileSync(join(this.dataDirectory, 'operator-secret'), 'utf8').trim();
    const headers = { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' };
    const options = body === undefined ? {} : { body: JSON.stringify(body) };
    const answer = await fetch(`http://${this.ready.http}${path}`, { method, headers, ...options });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 204 ? undefined : answer.json();
  }

  /** Kills the process without warning and starts it again on the same data directory and the same ports. */
  async crashAndRestart(): Promise<void> {
    await this.process.kill();
    await this.#start();
  }

  /** Ends the server for good and removes its data. */
  async dispose(): Promise<void> {
    await this.#process?.kill();
    rmSync(this.#home, { recursive: true, force: true });
  }

  async #start(): Promise<void> {
    const file = join(this.#home, 'ready.json');
    rmSync(file, { force: true });
    const ports = (['http', 'rtmp', 'whep', 'media', 'admin'] as const).flatMap((name) => [
      `--${name}-port`,
      String(this.#ready === undefined ? 0 : this.port(name)),
    ]);
    const { host, bind = '127.0.0.1', config, isGuarded = false, command = 'up' } = this.#place;
    const place = [
      ...(isGuarded ? [] : ['--open']),
      '--data-dir',
      this.dataDirectory,
      '--bind',
      bind,
      '--ready-file',
      file,
    ];
    if (config !== undefined) {
      writeFileSync(join(this.#home, 'lectern.toml'), config);
      place.push('--config', join(this.#home, 'lectern.toml'));
    }
    const all = [...place, ...ports, '--rtmps-port', '0'];
    this.#ready = await ready<Ready>(file, () => {
      this.#process = new Child(binary(), [command, ...all], host);
      return this.#process;
    });
  }
}

/** Starts a program, and waits until it has written where it listens. */
export async function ready<T>(file: string, start: () => Child): Promise<T> {
  const written = appearance(file, READY_MS);
  const failed = start().exited.then((how) => {
    throw new Error(`no ready file: ${how}`);
  });
  try {
    await Promise.race([written.promise, failed]);
  } finally {
    written.close();
    // The process leaves one day, and then nobody listens any more.
    failed.catch(() => undefined);
  }
  return JSON.parse(readFileSync(file, 'utf8')) as T;
}

/** The binary under test: `LECTERN_BIN`, or the workspace's debug build. */
export function binary(): string {
  const path =
    process.env['LECTERN_BIN'] ?? join(import.meta.dirname, '..', '..', '..', 'target', 'debug', 'lectern');
  if (!existsSync(path)) throw new Error(`no binary at ${path}: build it with cargo, or set LECTERN_BIN`);
  return path;
}

/** Our own publisher, which is built beside it. */
export function loadBinary(): string {
  const path = join(dirname(binary()), 'lectern-load');
  if (!existsSync(path)) throw new Error(`no binary at ${path}: build the workspace`);
  return path;
}

/** Settles when `file` is moved into its directory. The server writes it whole and renames it, so it is never half. */
function appearance(file: string, deadlineMs: number): { promise: Promise<void>; close: () => void } {
  const watcher = watch(join(file, '..'));
  const close = () => watcher.close();
  const promise = new Promise<void>((resolve, reject) => {
    const deadline = setTimeout(() => reject(new Error(`no ready file within ${deadlineMs} ms`)), deadlineMs);
    watcher.on('close', () => clearTimeout(deadline));
    watcher.on('error', reject);
    watcher.on('change', () => {
      if (existsSync(file)) resolve();
    });
  });
  return { promise, close };
}
