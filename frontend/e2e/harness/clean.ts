import { longestWaitMs, threadWaits } from './processor';

/** How long a machine that is busy with other things is given to get through one stretch without disturbing it. */
const WITHIN_MS = 60_000;

/** How often the waits of threads are read. */
const READ_EVERY_MS = 500;

/**
 * Between two readings, what a thread of the encoder or the browser may wait for a processor without being noticed: half
 * a packet of sound. A fault with less than that everywhere around it is the server's.
 */
const UNNOTICED_WAIT_MS = 10;

/** How long after a wait a fault may still come of it: a jitter buffer empties, a freeze is counted when it is over. */
const AFTERMATH_MS = 1_000;

/**
 * Repeats a stretch of a lesson until it has no faults.
 *
 * One with faults is passed over only when the machine made the encoder or the browser wait for a processor; otherwise
 * the faults are the server's, and an error at once. So a machine with nothing else to do forgives nothing, and on a
 * busy one a defect that lasts is found all the same, because no stretch is without it.
 *
 * @param server the server's process
 * @param stretch lives through one stretch, and answers what was wrong with it
 */
export async function untilClean(server: number, stretch: () => Promise<string[]>): Promise<void> {
  const starved: number[] = [];
  let waits = threadWaits(server);
  const timer = setInterval(() => {
    const now = threadWaits(server);
    if (longestWaitMs(waits, now) > UNNOTICED_WAIT_MS) starved.push(performance.now());
    waits = now;
  }, READ_EVERY_MS);
  const deadline = performance.now() + WITHIN_MS;
  try {
    for (let stretches = 1; ; stretches += 1) {
      const began = performance.now();
      const faults = await stretch();
      if (faults.length === 0) return;
      const found = faults.join(', ');
      if (!starved.some((at) => at > began - AFTERMATH_MS))
        throw new Error(`${found}, and nobody had to wait for a processor`);
      if (performance.now() > deadline)
        throw new Error(`none of ${stretches} stretches was without fault; the last had ${found}`);
      console.log(`passed over on a busy machine: ${found}`);
    }
  } finally {
    clearInterval(timer);
  }
}
