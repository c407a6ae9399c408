import type { Browser, BrowserContext, Locator, Page } from 'playwright-core';
import type { Server } from './server';
import { until } from './until';

/** The product's own wall, as a principal opens it. */
export class Monitor {
  static async open(browser: Browser, server: Server, secret?: string): Promise<Monitor> {
    const context = await browser.newContext({ viewport: { width: 1_280, height: 800 }, locale: 'en-GB' });
    const monitor = new Monitor(context, await context.newPage());
    const fragment = secret === undefined ? '' : `#secret=${secret}`;
    await monitor.page.goto(`http://${server.ready.http}/monitor${fragment}`);
    return monitor;
  }

  private constructor(
    private readonly context: BrowserContext,
    readonly page: Page,
  ) {}

  tile(name: string): Locator {
    return this.page.locator(`.tile[data-class="${name}"]`);
  }

  get tiles(): Locator {
    return this.page.locator('.tile[data-class]');
  }

  /** The classes in the order in which they are shown. */
  order(): Promise<string[]> {
    return this.tiles.evaluateAll((tiles) => tiles.map((tile) => tile.getAttribute('data-class') ?? ''));
  }

  /** Waits until a tile says `kind`, and returns when (of `Date.now()`). */
  async shows(name: string, kind: string, deadlineMs = 30_000): Promise<number> {
    await until(
      `the tile of ${name} as "${kind}"`,
      async () => {
        const now = await this.tile(name).getAttribute('data-kind', { timeout: 1_000 });
        if (now !== kind) throw new Error(`it is "${now}"`);
        return now;
      },
      deadlineMs,
    );
    return Date.now();
  }

  /** Waits for the picture of a tile, and returns when it was there. */
  async showsPicture(name: string, deadlineMs = 30_000): Promise<number> {
    await until(
      `the picture of ${name}`,
      () =>
        this.tile(name)
          .locator('video')
          .evaluateAll((videos) =>
            videos.some(
              (video) => video instanceof HTMLVideoElement && video.videoWidth > 0 && video.readyState >= 2,
            )
              ? true
              : undefined,
          ),
      deadlineMs,
    );
    return Date.now();
  }

  /** How many colours the middle of a tile has on the screen. */
  async colours(name: string): Promise<number> {
    const box = await this.tile(name).locator('.picture').boundingBox();
    if (box === null) throw new Error(`${name} has no picture`);
    const { x, y, width, height } = box;
    const clip = { x: x + width / 4, y: y + height * 0.3, width: width / 2, height: height * 0.4 };
    const shot = await this.page.screenshot({ clip });
    return this.page.evaluate(async (base64) => {
      const image = new Image();
      image.src = `data:image/png;base64,${base64}`;
      await image.decode();
      const canvas = document.createElement('canvas');
      canvas.width = image.width;
      canvas.height = image.height;
      const context = canvas.getContext('2d');
      if (context === null) return 0;
      context.drawImage(image, 0, 0);
      const { data } = context.getImageData(0, 0, image.width, image.height);
      return new Set(new Uint32Array(data.buffer)).size;
    }, shot.toString('base64'));
  }

  dispose(): Promise<void> {
    return this.context.close();
  }
}
