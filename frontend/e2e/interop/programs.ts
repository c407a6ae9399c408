import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Child } from '../harness/child';
import { until } from '../harness/until';
import type { Seen } from './seen';

/** Where the set-up puts what it builds. */
export const BUILT = join(import.meta.dirname, '..', '..', '..', 'target', 'interop', 'bin');

/** Programs of our own that watch with the libraries of others. */
export const CLIENTS = join(import.meta.dirname, 'clients');

/** A decoded minute of sound, and some more. */
const DECODED_BYTES_MAX = 100_000_000;

const run = promisify(execFile);

/** Waits until a program has said what it saw, or left without: the line of JSON that it prints after RESULT. */
export async function resultLine<T>(program: Child, deadlineMs = 60_000): Promise<T> {
  const left = await until(
    'the result of a program',
    () => {
      // Looked at before the log is: what has left writes nothing more.
      const isRunning = program.running;
      const said = /^RESULT (.*)\n/m.exec(readFileSync(program.log, 'utf8'))?.[1];
      return said ?? (isRunning ? undefined : null);
    },
    deadlineMs,
  );
  if (left === null) throw new Error(`no result: ${await program.exited}`);
  return JSON.parse(left) as T;
}

/** Gives `use` a folder that goes with it. */
export async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'lectern-interop-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Decodes what a player has kept with ffmpeg. */
export async function decoded(picture: string, sound: string): Promise<Omit<Seen, 'firstMs'>> {
  return { ...(await pictures(picture)), ...(await samples(sound)) };
}

async function pictures(file: string) {
  const { stdout } = await ffmpeg(file, '-map', '0:v', '-fps_mode', 'passthrough', '-f', 'framemd5', '-');
  const lines = stdout.toString().split('\n');
  const [, width, height] = lines.join('\n').match(/^#dimensions 0: (\d+)x(\d+)$/m) ?? [];
  const hashes = lines.filter((line) => /^\d/.test(line)).map((line) => line.split(',').at(-1));
  return {
    pictures: hashes.length,
    different: new Set(hashes).size,
    width: Number(width),
    height: Number(height),
  };
}

async function samples(file: string) {
  const { stdout } = await ffmpeg(file, '-map', '0:a', '-ac', '1', '-ar', '48000', '-f', 'f32le', '-');
  const count = Math.floor(stdout.length / 4);
  let energy = 0;
  for (let i = 0; i < count; i += 1) energy += stdout.readFloatLE(4 * i) ** 2;
  return { samples: count, level: Math.sqrt(energy / Math.max(count, 1)) };
}

function ffmpeg(file: string, ...output: string[]) {
  return run('ffmpeg', ['-hide_banner', '-nostdin', '-loglevel', 'error', '-i', file, ...output], {
    encoding: 'buffer',
    maxBuffer: DECODED_BYTES_MAX,
  });
}
