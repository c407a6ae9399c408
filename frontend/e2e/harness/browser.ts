import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import type { ClockReading, JoinOptions, JoinTimes, Picture, Tone } from '../page/probe';
import { untilClean } from './clean';
import { faults, type Judge } from './faults';
import type { Host } from './namespaces';
import type { Server, Token } from './server';
import { Site } from './site';
import {
  between,
  type Playback,
  playback,
  type Route,
  route,
  type Security,
  security,
  type Stat,
  type Transport,
  transport,
} from './stats';
import { until } from './until';

const CHROMIUM_FLAGS = [
  '--no-sandbox',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];

/**
 * In a network namespace nobody answers multicast DNS, and without IPv4 Chromium waits for that for ever before it opens
 * a port. The names only hide the viewer's addresses from the page.
 */
const HOST_FLAGS = [...CHROMIUM_FLAGS, '--disable-features=WebRtcHideLocalIpsWithMdns'];

/** From the answer to media, in a browser that has just begun on a machine that does other work. */
const MEDIA_MS = 50_000;

/** How Chromium is started on this machine. */
export function chromiumOptions(): { executablePath: string; args: string[] } {
  return { executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium', args: CHROMIUM_FLAGS };
}

/** Debian's Chromium, or the one that `CHROMIUM` names; on `host` when there is one, with `env` in its environment. */
export async function launch(host?: Host, env: Record<string, string> = {}): Promise<Browser> {
  const { executablePath: chosen, args: flags } = chromiumOptions();
  if (host === undefined) {
    const surroundings = { ...process.env, ...env } as Record<string, string>;
    return chromium.launch({ executablePath: chosen, args: flags, env: surroundings });
  }
  // Playwright starts one executable with arguments of its own, so what comes before them needs a script.
  const home = mkdtempSync(join(tmpdir(), 'lectern-chromium-'));
  const script = join(home, 'chromium');
  const [command, args] = host.within(chosen, []);
  writeFileSync(script, `#!/bin/sh\nexec ${[command, ...args].map((word) => `'${word}'`).join(' ')} "$@"\n`);
  chmodSync(script, 0o700);
  const browser = await chromium.launch({ executablePath: script, args: HOST_FLAGS });
  browser.once('disconnected', () => rmSync(home, { recursive: true, force: true }));
  return browser;
}

/** The counters at both ends of a stretch of watching, and how long it was. */
export interface Watched {
  earlier: Playback;
  later: Playback;
  seconds: number;
}

/** Before the sound is judged: the browser finds out how evenly it arrives, and makes up for it once. */
const SETTLING_S = 1;

/** Made-up samples that a join may begin with, at 48 kHz: a tenth of a second. */
const JOIN_CONCEALED_MAX = 4_800;

/** Whoever gives out tokens: the server, or what stands for it where another one is measured. */
type Admission = { token: () => Promise<Pick<Token, 'webrtc_url' | 'token'>> };

/** The bare page with the tests' own viewer, and how a test drives it. */
export class Probe {
  static async open(browser: Browser): Promise<Probe> {
    const site = await Site.of(join(import.meta.dirname, '..', 'page', 'probe.ts'));
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(site.url);
    return new Probe(page, context, site);
  }

  private constructor(
    readonly page: Page,
    private readonly context: BrowserContext,
    private readonly site: Site,
  ) {}

  /** Posts an offer, and answers with the HTTP status. */
  async post(server: Admission, options: JoinOptions = {}): Promise<number> {
    const { webrtc_url: endpoint, token } = await server.token();
    return this.page.evaluate(([endpoint, token, options]) => window.probe.join(endpoint, token, options), [
      endpoint,
      token,
      options,
    ] as const);
  }

  /** Joins a lesson that is live, and waits until media flows. */
  async join(server: Server, options: JoinOptions = {}): Promise<void> {
    const status = await this.post(server, options);
    if (status !== 201) throw new Error(`the WHEP POST was answered ${status}`);
    const flows = async (): Promise<true | undefined> => {
      const { framesDecoded, samplesReceived } = await this.playback();
      return framesDecoded > 0 || samplesReceived > 0 ? true : undefined;
    };
    await until('media', flows, MEDIA_MS);
  }

  times(): Promise<Partial<JoinTimes>> {
    return this.page.evaluate(() => window.probe.viewer.times);
  }

  /** What the Gray clock said so far, frame by frame. */
  readings(): Promise<ClockReading[]> {
    return this.page.evaluate(() => window.probe.viewer.readings);
  }

  states(): Promise<string[]> {
    return this.page.evaluate(() => window.probe.viewer.states);
  }

  picture(): Promise<Picture> {
    return this.page.evaluate(() => window.probe.viewer.picture());
  }

  picturesDue(): Promise<number> {
    return this.page.evaluate(() => window.probe.viewer.picturesDue());
  }

  tone(): Promise<Tone> {
    return this.page.evaluate(() => window.probe.tone());
  }

  async stats(): Promise<Stat[]> {
    return this.page.evaluate(() => window.probe.viewer.stats());
  }

  async playback(): Promise<Playback> {
    return playback(await this.stats());
  }

  async security(): Promise<Security> {
    return security(await this.stats());
  }

  /** The way that the media takes. */
  async route(): Promise<Route> {
    return route(await this.stats());
  }

  /** What changes when a connection is made anew: its ICE and DTLS identities and the stream that it carries. */
  async transport(): Promise<Transport> {
    const serverCertificate = await this.page.evaluate(() => window.probe.viewer.serverCertificate());
    return { ...transport(await this.stats()), serverCertificate };
  }

  /** Watches for at least `seconds` of the page's time, and answers with the counters before and after. */
  async watch(seconds: number): Promise<Watched> {
    const [earlier, began] = [await this.playback(), performance.now()];
    const elapsed = () => (performance.now() - began) / 1_000;
    await until(`${seconds} s of watching`, () => (elapsed() >= seconds ? true : undefined), seconds * 2_000);
    const took = elapsed();
    return { earlier, later: await this.playback(), seconds: took };
  }

  /** Joins a lesson that is live, so that its sound begins without a gap that can be heard. */
  cleanJoin(server: Server): Promise<void> {
    return untilClean(server.process.pid, async () => {
      await this.join(server);
      const { later } = await this.watch(SETTLING_S);
      return faults({
        [`${later.concealedSamples} samples made up at the start`]:
          later.concealedSamples < JOIN_CONCEALED_MAX,
      });
    });
  }

  /** Watches until a stretch of `seconds` is without fault, as far as the machine allows, and returns its end. */
  async cleanStretch(server: Server, seconds: number, judge: Judge): Promise<Playback> {
    let end: Playback | undefined;
    await untilClean(server.process.pid, async () => {
      const watched = await this.watch(seconds);
      end = watched.later;
      return judge(between(watched.earlier, watched.later), watched.seconds);
    });
    return end ?? this.playback();
  }

  /** Ends the session. A page that is merely closed is sent media until its consent expires. */
  leave(): Promise<void> {
    return this.page.evaluate(() => window.probe.viewer.leave());
  }

  /** Restarts ICE as a viewer does whose network has changed, and answers with the status of the PATCH. */
  restartIce(): Promise<number> {
    return this.page.evaluate(() => window.probe.viewer.restartIce());
  }

  async dispose(): Promise<void> {
    await this.context.close();
    await this.site.dispose();
  }
}
