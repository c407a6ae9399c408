import { readdirSync, readFileSync } from 'node:fs';

/**
 * How long each thread of the programs around a server has waited for a processor, in milliseconds since it began
 * (proc_pid_schedstat(5), the second field).
 *
 * Around it are the descendants of this process: the encoder and the browser. The server itself is left out, so that
 * one that takes the processors from everybody else is never its own excuse for more than what they waited.
 */
export function threadWaits(server: number): Map<string, number> {
  const children = childrenOf();
  const waits = new Map<string, number>();
  const due = [process.pid];
  for (let pid = due.pop(); pid !== undefined; pid = due.pop()) {
    if (pid === server) continue;
    due.push(...(children.get(pid) ?? []));
    if (pid === process.pid) continue;
    for (const thread of listing(`/proc/${pid}/task`)) {
      const waited = text(`/proc/${pid}/task/${thread}/schedstat`).split(' ')[1];
      if (waited !== undefined) waits.set(thread, Number(waited) / 1e6);
    }
  }
  return waits;
}

/** The longest that one thread waited between two looks. */
export function longestWaitMs(
  earlier: ReadonlyMap<string, number>,
  later: ReadonlyMap<string, number>,
): number {
  return Math.max(0, ...[...later].map(([thread, waited]) => waited - (earlier.get(thread) ?? waited)));
}

function childrenOf(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const name of listing('/proc').filter((name) => /^\d+$/.test(name))) {
    // The parent is the second field behind the name, which may hold anything but ends with the last parenthesis.
    const parent = Number(text(`/proc/${name}/stat`).split(') ').at(-1)?.split(' ')[1]);
    if (Number.isInteger(parent)) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  return children;
}

/** What a folder holds; nothing when its process has ended meanwhile. */
function listing(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function text(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
