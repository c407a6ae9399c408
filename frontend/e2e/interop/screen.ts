import type { Stat } from '../harness/stats';
import { until } from '../harness/until';
import { resultOf, type Seen } from './seen';

declare global {
  interface Window {
    interop: {
      /** Every connection that the page ever made, in order. */
      connections: RTCPeerConnection[];
      /** When the first offer was posted, the first picture decoded, and the first sound. */
      posted?: number;
      seen?: number;
      heard?: number;
    };
  }
}

/** As much of a browser's page as is needed here, whoever drives the browser. */
export interface Pane {
  addInitScript(script: () => void): Promise<unknown>;
  goto(url: string): Promise<unknown>;
  evaluate<T>(look: () => T | Promise<T>): Promise<T>;
}

/** How long a player may take until all is there that is expected of it. */
const DEADLINE_MS = 30_000;

/** What a browser's page plays, whoever wrote the player. */
export class Screen {
  /** Opens a page with a player in it. */
  static async open(page: Pane, url: string): Promise<Screen> {
    await page.addInitScript(() => {
      window.interop = { connections: [] };
      window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(configuration?: RTCConfiguration) {
          super(configuration);
          window.interop.connections.push(this);
        }
      };
      const ask = window.fetch;
      window.fetch = (resource, options) => {
        if (String(options?.body).startsWith('v=0')) window.interop.posted ??= performance.now();
        return ask(resource, options);
      };
      // An element that begins to load will have a picture, or not.
      const onLoad = ({ target }: Event) => {
        if (!(target instanceof HTMLVideoElement)) return;
        target.requestVideoFrameCallback((_now, { receiveTime, processingDuration }) => {
          // When the last packet came in, plus what the decoder took, where the browser says so.
          const decoded = (receiveTime ?? Number.NaN) + (processingDuration ?? Number.NaN) * 1_000;
          window.interop.seen ??= Number.isNaN(decoded) ? performance.now() : decoded;
        });
      };
      window.addEventListener('loadstart', onLoad, { capture: true });
      const listening = setInterval(async () => {
        for (const connection of window.interop.connections)
          for (const stat of (await connection.getStats()).values())
            if (stat.type === 'inbound-rtp' && Number(stat.totalAudioEnergy) > 0) {
              window.interop.heard ??= performance.now();
              clearInterval(listening);
            }
      }, 20);
    });
    await page.goto(url);
    return new Screen(page);
  }

  readonly #checksums = new Set<number>();

  constructor(private readonly page: Pane) {}

  /** Watches until everything is there that makes `result`, or for as long as a player may take. */
  async watch(result: string): Promise<Seen> {
    let last: Seen | undefined;
    await until(
      result,
      async () => {
        last = await this.#look();
        return resultOf(last) === result ? true : undefined;
      },
      DEADLINE_MS,
    ).catch((error: unknown) => {
      // What was seen instead says more than that time ran out.
      if (last === undefined) throw error;
    });
    if (last === undefined) throw new Error('nobody has looked');
    return last;
  }

  async #look(): Promise<Seen> {
    const { stats, checksum, width, height, firstMs } = await this.page.evaluate(async () => {
      const { connections, posted, seen, heard } = window.interop;
      const first = seen ?? heard;
      const stats = [...((await connections.at(-1)?.getStats())?.values() ?? [])] as Stat[];
      const video = document.querySelector('video');
      const context = new OffscreenCanvas(16, 9).getContext('2d');
      if (video === null || context === null) throw new Error('nothing to look at');
      const { videoWidth: width, videoHeight: height } = video;
      if (width > 0) context.drawImage(video, 0, 0, 16, 9);
      const pixels = new Uint32Array(context.getImageData(0, 0, 16, 9).data.buffer);
      const checksum = pixels.reduce((sum, pixel) => (Math.imul(sum, 31) + pixel) | 0, 0);
      const firstMs = posted === undefined || first === undefined ? undefined : first - posted;
      return { stats, checksum, width, height, firstMs };
    });
    this.#checksums.add(checksum);
    const number = (kind: string, name: string) => {
      const found = stats.find((stat) => stat.type === 'inbound-rtp' && stat['kind'] === kind);
      return Number(found?.[name] ?? 0);
    };
    const duration = number('audio', 'totalSamplesDuration');
    return {
      pictures: number('video', 'framesDecoded'),
      different: this.#checksums.size,
      width,
      height,
      samples: number('audio', 'totalSamplesReceived'),
      // W3C, Identifiers for WebRTC's Statistics API, totalAudioEnergy.
      level: duration === 0 ? 0 : Math.sqrt(number('audio', 'totalAudioEnergy') / duration),
      ...(firstMs === undefined ? {} : { firstMs }),
    };
  }
}
