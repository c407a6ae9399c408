import { defineConfig } from 'vitest/config';

/**
 * The end-to-end suite: the real binary, real publishers and Debian's Chromium.
 * `vitest run` takes the tests, `vitest run --mode bench` the measurements, `vitest run --mode interop` the programs of
 * others; `vitest run --mode link` is how `lectern-load bottleneck` starts Chromium, and `--mode lab` how `lectern-load faults` does.
 */
const FILES: Record<string, string> = {
  bench: 'bench/**/*.bench.ts',
  interop: 'interop/**/*.interop.ts',
  link: 'bench/link.player.ts',
  lab: 'bench/lab.player.ts',
};

/** What `lectern-load` starts sees its own processes only: those of other runs look dead to it, and their logs would go. */
const PLAYERS = new Set(['link', 'lab']);

export default defineConfig(({ mode }) => ({
  test: {
    root: import.meta.dirname,
    include: [FILES[mode] ?? 'tests/**/*.test.ts'],
    environment: 'node',
    globalSetup: [
      ...(PLAYERS.has(mode) ? [] : ['harness/sweep.ts']),
      ...(mode === 'interop' ? ['interop/table.ts'] : []),
    ],
    // One server, one encoder and one browser at a time: what is measured must not be starved by a neighbour.
    fileParallelism: false,
    maxConcurrency: 1,
    // A machine that is busy with other things is given a minute to have a clean stretch (harness/clean.ts).
    testTimeout: { bench: 900_000, interop: 180_000 }[mode] ?? 120_000,
    hookTimeout: 30_000,
    teardownTimeout: 10_000,
    disableConsoleIntercept: true,
  },
}));
