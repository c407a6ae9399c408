import type { Probe } from '../harness/browser';
import type { Child } from '../harness/child';
import type { Server } from '../harness/server';
import { between } from '../harness/stats';
import { until } from '../harness/until';

/** How long a program may take until it publishes. OBS draws with the processor here, and others want it too. */
const LIVE_MS = 45_000;
/** How long what was joined may take to become a picture. x264's own keyframe interval is 8.3 s at 30 frames a second. */
const PICTURE_MS = 20_000;
/** How long different pictures are looked for: three keyframes of x264's own interval. */
const DIFFERENT_MS = 30_000;
const DIFFERENT_MIN = 3;
/** Columns and rows in which pictures are compared, and by how much a part of one that moves is brighter or darker. */
const PARTS = [64, 36] as const;
const MOVED = 48;
/** How long frames and samples are counted. */
const COUNTED_S = 4;
/** Frames a second that are no keyframes; with fewer it is a slide show. A machine that is busy with others manages them. */
const MOVING_FPS = 2;
/** Samples a second of sound that comes; Opus has 48,000. */
const SAMPLES_MIN = 40_000;
/** How long the reason for a refusal may take to be told. */
const REASON_MS = 5_000;
/** How often the stream's status is looked at while it is watched. */
const DIARY_MS = 100;

/** What a viewer saw and heard of a publisher. */
export interface Seen {
  result: 'picture and sound' | 'picture' | 'slide show and sound' | 'slide show' | 'sound' | 'nothing';
  size: string;
  framesPerSecond: number;
  hertz: number;
  /** From the start of the program to the first decoded picture. */
  firstFrameMs?: number;
  problems: Trouble[];
  /** The last words of a program that left. */
  left?: string;
}

/** A problem that the API told of, and when. */
export interface Trouble {
  code: string;
  text: string;
  /** Since the stream was first listed. */
  afterMs: number;
  /** It was still told when the watching ended. */
  isLasting: boolean;
}

/** Starts a program that publishes and answers what a viewer in Chromium decodes of it. */
export async function watch(server: Server, probe: Probe, start: () => Child): Promise<Seen> {
  const began = performance.now();
  const program = start();
  const diary = new Diary(server);
  const gone = program.exited.then(async (left): Promise<Seen> => {
    // A program that is refused leaves at once; whoever looks at the stream afterwards is to learn why.
    await perhaps('a problem', REASON_MS, () => diary.read().then((found) => found[0]));
    const problems = await diary.read();
    return { result: 'nothing', size: '', framesPerSecond: 0, hertz: 0, problems, left };
  });
  const judged = judge(server, probe, diary, began);
  // Whichever comes second has nobody who listens: the program is ended with the test, and the server with it.
  gone.catch(() => undefined);
  judged.catch(() => undefined);
  try {
    return await Promise.race([judged, gone]);
  } finally {
    diary.close();
  }
}

async function judge(server: Server, probe: Probe, diary: Diary, began: number): Promise<Seen> {
  await until(
    'a live stream',
    async () => ((await server.stream())?.state === 'active' ? true : undefined),
    LIVE_MS,
  );
  await probe.join(server);
  const first = await perhaps('a decoded picture', PICTURE_MS, async () =>
    (await probe.playback()).framesDecoded > 0 ? performance.now() - began : undefined,
  );
  const looks: number[][] = [];
  const differ = await perhaps('different pictures', DIFFERENT_MS, async () => {
    const look = await lookAt(probe);
    if (looks.every((other) => isDifferent(look, other))) looks.push(look);
    return looks.length >= DIFFERENT_MIN ? true : undefined;
  });
  const { earlier, later, seconds } = await probe.watch(COUNTED_S);
  const counted = between(earlier, later);
  const framesPerSecond = counted.framesDecoded / seconds;
  const isMoving = (counted.framesDecoded - counted.keyFramesDecoded) / seconds > MOVING_FPS;
  const { width, height } = await probe.picture();
  const isHeard = counted.audioEnergy > 0 && counted.samplesReceived / seconds > SAMPLES_MIN;
  const picture = differ === undefined ? [] : [isMoving ? 'picture' : 'slide show'];
  const parts = [...picture, ...(isHeard ? ['sound'] : [])];
  return {
    result: (parts.join(' and ') || 'nothing') as Seen['result'],
    size: `${width}x${height}`,
    framesPerSecond: Math.round(framesPerSecond * 10) / 10,
    hertz: isHeard ? Math.round((await probe.tone()).hertz) : 0,
    ...(first === undefined ? {} : { firstFrameMs: Math.round(first) }),
    problems: await diary.read(),
  };
}

/** The brightness of the picture's parts, from 0 to 255. */
function lookAt(probe: Probe): Promise<number[]> {
  return probe.page.evaluate(([columns, rows]) => {
    const video = document.querySelector('video');
    const context = new OffscreenCanvas(columns, rows).getContext('2d');
    if (video === null || context === null) throw new Error('nothing to look at');
    context.drawImage(video, 0, 0, columns, rows);
    const { data } = context.getImageData(0, 0, columns, rows);
    const sum = (at: number) => (data[at] ?? 0) + (data[at + 1] ?? 0) + (data[at + 2] ?? 0);
    return Array.from({ length: columns * rows }, (_, part) => sum(part * 4) / 3);
  }, PARTS);
}

/** Whether something has moved. A checksum would not do: each picture of a still is encoded a little differently. */
function isDifferent(one: readonly number[], other: readonly number[]): boolean {
  return one.some((brightness, part) => Math.abs(brightness - (other[part] ?? 0)) > MOVED);
}

/** What comes within `deadlineMs`, or `undefined` when it does not: that is a result here, not an error. */
function perhaps<T>(
  what: string,
  deadlineMs: number,
  look: () => Promise<T | undefined>,
): Promise<T | undefined> {
  return until(what, look, deadlineMs).catch(() => undefined);
}

/** When the API first told what of a stream. */
class Diary {
  readonly #server: Server;
  readonly #told = new Map<string, Omit<Trouble, 'isLasting'>>();
  readonly #timer: NodeJS.Timeout;
  #listed: number | undefined;

  constructor(server: Server) {
    this.#server = server;
    // A server that does not answer fails the test elsewhere.
    this.#timer = setInterval(() => void this.#look().catch(() => undefined), DIARY_MS);
  }

  async #look(): Promise<string[]> {
    const stream = await this.#server.stream();
    if (stream === undefined) return [];
    this.#listed ??= performance.now();
    const afterMs = Math.round(performance.now() - this.#listed);
    for (const { code, text } of stream.problems)
      if (!this.#told.has(code)) this.#told.set(code, { code, text, afterMs });
    return stream.problems.map(({ code }) => code);
  }

  async read(): Promise<Trouble[]> {
    const lasting = await this.#look();
    return [...this.#told.values()].map((told) => ({ ...told, isLasting: lasting.includes(told.code) }));
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
