import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where logs, screenshots and measurements are left: `frontend/test-results`, which git ignores. */
export const RESULTS = join(import.meta.dirname, '..', '..', 'test-results');

mkdirSync(RESULTS, { recursive: true });

/** The value below which the share `p` of `values` lies (nearest rank). */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = Math.min(Math.max(Math.ceil(p * sorted.length) - 1, 0), sorted.length - 1);
  return sorted[rank] ?? Number.NaN;
}

/** What is said of a list of times: its middle, its tail and its worst, in whole tenths. */
export function spread(values: readonly number[]): { n: number; p50: number; p95: number; max: number } {
  const tenth = (value: number) => Math.round(value * 10) / 10;
  return {
    n: values.length,
    p50: tenth(percentile(values, 0.5)),
    p95: tenth(percentile(values, 0.95)),
    max: tenth(percentile(values, 1)),
  };
}

/** Prints a measurement as a table and leaves it, raw values included, in `test-results/<name>.json`. */
export function report(name: string, rows: Record<string, object>, raw: unknown): void {
  console.log(`\n${name}`);
  console.table(rows);
  writeFileSync(join(RESULTS, `${name}.json`), `${JSON.stringify({ name, rows, raw }, null, 2)}\n`);
}
