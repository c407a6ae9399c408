import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { CLIENTS } from './programs';
import type { Pane } from './screen';

/** Debian's Firefox, or the one that `FIREFOX` names. */
export const FIREFOX = process.env['FIREFOX'] ?? '/usr/bin/firefox-esr';

/** As much of Puppeteer as is used here: it is installed apart, for this tier alone. */
interface Puppeteer {
  launch(options: object): Promise<{
    version(): Promise<string>;
    newPage(): Promise<Pick<Pane, 'goto' | 'evaluate'> & { evaluateOnNewDocument: Pane['addInitScript'] }>;
    close(): Promise<void>;
  }>;
}

/** Opens Firefox as its package installs it, over WebDriver BiDi, for as long as `use` takes. */
export async function inFirefox<T>(use: (pane: Pane, version: string) => Promise<T>): Promise<T> {
  const place = createRequire(join(CLIENTS, 'npm', 'package.json')).resolve('puppeteer-core');
  const { default: puppeteer } = (await import(/* @vite-ignore */ pathToFileURL(place).href)) as {
    default: Puppeteer;
  };
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: FIREFOX,
    extraPrefsFirefox: {
      'media.autoplay.default': 0,
    },
  });
  try {
    const page = await browser.newPage();
    const pane: Pane = {
      addInitScript: (script) => page.evaluateOnNewDocument(script),
      goto: (url) => page.goto(url),
      evaluate: (look) => page.evaluate(look),
    };
    // As in "firefox/140.0".
    return await use(pane, (await browser.version()).replace(/^firefox\//, ''));
  } finally {
    await browser.close();
  }
}
