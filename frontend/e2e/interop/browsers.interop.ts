import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { Site } from '../harness/site';
import { CLIENTS } from './programs';
import { ALL } from './report';
import { Screen } from './screen';
import { judge } from './seen';

declare global {
  interface Window {
    /** What a page with a player of others has. */
    play: (url: string) => Promise<void>;
  }
}

test("Chromium plays with Lectern's page", async ({ browser, server, teach }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  await judge({ name: "Chromium, Lectern's page" }, async () => {
    const context = await browser.newContext();
    try {
      const page = await context.newPage();
      const screen = await Screen.open(page, server.ready.watch_url);
      return { version: browser.version(), ...(await screen.watch(ALL)) };
    } finally {
      await context.close();
    }
  });
});

test('Chromium plays with an RSA certificate', async ({ browser, server, teach, probe }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  await judge({ name: 'Chromium, an RSA certificate' }, async () => {
    await probe.join(server, { rsaBits: 2_048 });
    await probe.page.evaluate(() => {
      window.interop = { connections: [window.probe.viewer.connection] };
    });
    const seen = await new Screen(probe.page).watch(ALL);
    expect(await probe.security()).toMatchObject({ dtlsState: 'connected', certificateKey: 'rsa' });
    const { decoded = Number.NaN } = await probe.times();
    return { version: browser.version(), ...seen, firstMs: decoded };
  });
});

for (const [library, entry] of [
  ['@eyevinn/webrtc-player', 'eyevinn-page.js'],
  ['@binbat/whip-whep', 'whip-whep-page.js'],
] as const) {
  // The bare address: in open mode nobody from this machine needs a token.
  test(`${library} plays in Chromium`, async ({ browser, server, teach }) => {
    teach(LESSONS.baseline);
    await server.untilLive();
    await judge({ name: `${library} in Chromium` }, async () => {
      const site = await Site.of(join(CLIENTS, 'npm', entry), '<video autoplay playsinline></video>');
      const context = await browser.newContext();
      try {
        const page = await context.newPage();
        const screen = await Screen.open(page, site.url);
        const url = `http://${server.ready.whep}/live/${server.ready.class}/whep`;
        await page.evaluate((url) => window.play(url), url);
        const version = `${versionOf(library)}, Chromium ${browser.version()}`;
        return { version, ...(await screen.watch(ALL)) };
      } finally {
        await context.close();
        await site.dispose();
      }
    });
  });
}

function versionOf(library: string): string {
  const file = join(CLIENTS, 'npm', 'node_modules', library, 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
