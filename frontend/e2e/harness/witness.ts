import type { Page } from 'playwright-core';
import { until } from './until';

declare global {
  interface Window {
    e2eScenes: { kind: string; said: string; atMs: number }[];
  }
}

/** What the page showed and said, with when, from the moment that it is asked to remember. */
export class Witness {
  private constructor(private readonly page: Page) {}

  static async of(page: Page): Promise<Witness> {
    await page.evaluate(() => {
      window.e2eScenes = [];
      const main = document.querySelector('main');
      const live = document.querySelector('[aria-live]');
      if (main === null || live === null) throw new Error('this is not the page of a lesson');
      const look = (): void => {
        const kind = main.getAttribute('data-scene') ?? '';
        const said = live.textContent ?? '';
        const last = window.e2eScenes.at(-1);
        if (last?.kind !== kind || last.said !== said)
          window.e2eScenes.push({ kind, said, atMs: performance.timeOrigin + performance.now() });
      };
      look();
      const options = { attributes: true, subtree: true, childList: true, characterData: true };
      new MutationObserver(look).observe(main, options);
    });
    return new Witness(page);
  }

  scenes(): Promise<Window['e2eScenes']> {
    return this.page.evaluate(() => window.e2eScenes);
  }

  /** Waits for a scene after `since` (of `Date.now()`), and returns how long it took. */
  async tookToSee(kind: string, since: number, deadlineMs = 30_000): Promise<number> {
    const found = await until(
      `the scene "${kind}"`,
      async () => {
        const scenes = await this.scenes();
        const seen = scenes.find((scene) => scene.kind === kind && scene.atMs >= since - 1);
        if (seen === undefined) throw new Error(`seen: ${JSON.stringify(scenes)}`);
        return seen;
      },
      deadlineMs,
    );
    return Math.round(found.atMs - since);
  }

  /** Every sentence in the order in which it was said. */
  async said(): Promise<string[]> {
    const said = (await this.scenes()).map(({ said }) => said);
    return said.filter((text, at) => text !== said[at - 1]);
  }
}
