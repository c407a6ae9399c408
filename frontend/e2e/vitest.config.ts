import { defineConfig } from 'vitest/config';

/**
 * The end-to-end suite: the real binary, real publishers and Debian's Chromium.
 * `vitest run` takes the tests, `vitest run --mode bench` the measurements, and `vitest run --mode link` is how
 * `lectern-load bottleneck` starts Chromium.
 */
const FILES: Record<string, string> = {
  bench: 'bench/**/*.bench.ts',
  link: 'bench/link.player.ts',
  interop: 'interop/**/*.interop.ts',
};

export default defineConfig(({ mode }) => ({
  test: {
    root: import.meta.dirname,
    include: [FILES[mode] ?? 'tests/**/*.test.ts'],
    environment: 'node',
    globalSetup: 'harness/sweep.ts',
    // One server, one encoder and one browser at a time: what is measured must not be starved by a neighbour.
    fileParallelism: false,
    maxConcurrency: 1,
    // A machine that is busy with other things is given a minute to have a clean stretch (harness/clean.ts).
    testTimeout: mode === 'bench' ? 900_000 : 120_000,
    hookTimeout: 30_000,
    teardownTimeout: 10_000,
    disableConsoleIntercept: true,
  },
}));
