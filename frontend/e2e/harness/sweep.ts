import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { RESULTS } from './results';

/**
 * Before a run: the logs of finished runs go, so that what lies there after a failure belongs to this one.
 *
 * A log's name begins with the process that wrote it. Where that still lives, another run is under way beside this one.
 */
export function setup(): void {
  for (const name of readdirSync(RESULTS)) {
    const writer = /^(\d+)-.*\.log$/.exec(name)?.[1];
    if (writer !== undefined && !lives(Number(writer))) rmSync(join(RESULTS, name));
  }
}

function lives(pid: number): boolean {
  try {
    // Signal 0 asks and does nothing (kill(2)).
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
