import type { Browser, BrowserContext, Locator, Page, Request } from 'playwright-core';
import type { Server } from './server';
import { type Playback, playback, type Stat } from './stats';
import { until } from './until';

declare global {
  interface Window {
    /** Every connection that the page ever made, in order. */
    e2eConnections: RTCPeerConnection[];
  }
}

/** The product's own page, as a student opens it. */
export class Student {
  /** Everything the page asked any server for. */
  readonly requests: Request[] = [];
  /** How often the page was loaded. */
  loads = 0;

  /** Opens the page of the server's class, or the given one. */
  static async open(browser: Browser, server: Server, url = server.ready.watch_url): Promise<Student> {
    const context = await browser.newContext({ viewport: { width: 1_280, height: 800 }, locale: 'en-GB' });
    return Student.within(context, url);
  }

  /** Opens a page in a browser that a test has set up in a way of its own. */
  static async within(context: BrowserContext, url: string): Promise<Student> {
    await context.addInitScript(() => {
      window.e2eConnections = [];
      window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(configuration?: RTCConfiguration) {
          super(configuration);
          window.e2eConnections.push(this);
        }
      };
      // What a page asks for while it is being left is seen by nobody outside it, so it leaves a note.
      const ask = window.fetch;
      window.fetch = (resource, options) => {
        if (options?.method === 'DELETE' && options.keepalive)
          sessionStorage.setItem('farewell', String(resource));
        return ask(resource, options);
      };
    });
    const student = new Student(context, await context.newPage());
    await student.page.goto(url);
    return student;
  }

  private constructor(
    private readonly context: BrowserContext,
    readonly page: Page,
  ) {
    page.on('request', (request) => this.requests.push(request));
    page.on('load', () => {
      this.loads += 1;
    });
  }

  /** The status of the last answer from this path, once there is one. */
  async answered(path: string): Promise<number | undefined> {
    const asked = this.requests.filter((request) => new URL(request.url()).pathname === path).at(-1);
    return (await asked?.response())?.status();
  }

  get video(): Locator {
    return this.page.locator('video');
  }

  isMuted(): Promise<boolean> {
    return this.video.evaluate((video: HTMLVideoElement) => video.muted);
  }

  /** What a screen reader is told. */
  async announcement(): Promise<string> {
    return (await this.page.locator('[aria-live]').textContent()) ?? '';
  }

  /** The state the page is in, as it tells style sheets and tests. */
  async state(): Promise<string | null> {
    return this.page.locator('[data-state]').first().getAttribute('data-state');
  }

  /** Why it is in that state. */
  async reason(): Promise<string | null> {
    return this.page.locator('[data-state]').first().getAttribute('data-reason');
  }

  /** Waits until the page says `reason`. */
  async says(reason: string, deadlineMs = 20_000): Promise<void> {
    await until(
      `the page giving the reason "${reason}"`,
      async () => {
        const now = await this.reason();
        if (now !== reason)
          throw new Error(`the page is in state "${await this.state()}", because of "${now}"`);
        return now;
      },
      deadlineMs,
    );
  }

  /** Waits until the page says `state`. */
  async reaches(state: string, deadlineMs = 20_000): Promise<void> {
    await until(
      `the page in state "${state}"`,
      async () => {
        const now = await this.state();
        if (now !== state) throw new Error(`the page is in state "${now}"`);
        return now;
      },
      deadlineMs,
    );
  }

  /** Live in word and deed: the state says so, and frames of the newest connection are decoded. */
  async plays(deadlineMs = 20_000): Promise<void> {
    await this.reaches('live', deadlineMs);
    const { framesDecoded } = await this.playback();
    await until('frames to be decoded', async () => {
      const now = await this.playback();
      return now.framesDecoded > framesDecoded ? now : undefined;
    });
  }

  /** How many connections the page has made since it was opened. */
  connections(): Promise<number> {
    return this.page.evaluate(() => window.e2eConnections.length);
  }

  /** The session that the page last deleted in a way that outlives it, as the next page of the same site knows it. */
  farewell(): Promise<string | null> {
    return this.page.evaluate(() => sessionStorage.getItem('farewell'));
  }

  async playback(): Promise<Playback> {
    const stats = await this.page.evaluate(async () => {
      const found = await window.e2eConnections.at(-1)?.getStats();
      return [...(found?.values() ?? [])] as Stat[];
    });
    return playback(stats);
  }

  dispose(): Promise<void> {
    return this.context.close();
  }
}
