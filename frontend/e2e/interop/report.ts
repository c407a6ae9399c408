import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What somebody else's program made of the server, or the server of it. */
export interface Row {
  kind: 'publisher' | 'player';
  /** The program as people know it, with how it was used: "OBS Studio, as installed", "GStreamer whepsrc". */
  name: string;
  /** As the program itself says it. */
  version: string;
  /** What was seen: "picture and sound", "slide show and sound", "sound", "picture", "nothing", "not tried". */
  result: string;
  /**
   * Milliseconds: for players from the POST to the first decoded picture (or sound); for publishers from the start of
   * the program to the first decoded picture at a viewer.
   */
  firstFrameMs?: number;
  /** A sentence that a user understands: why not, or which setting to change. Required unless all is seen and heard. */
  note?: string;
}

/** Everything is there. */
export const ALL = 'picture and sound';

/** The repository. */
export const ROOT = join(import.meta.dirname, '..', '..', '..');

/** One file a row, so that a run of a part replaces its own rows and no other. */
const ROWS = join(ROOT, 'target', 'interop');

/** Puts a row into the table; the last one of its kind and name stands. */
export function record(row: Row): void {
  if (row.result !== ALL && !row.note) throw new Error(`${row.name}: a row that lacks something says why`);
  mkdirSync(ROWS, { recursive: true });
  const slug = row.name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
  writeFileSync(join(ROWS, `${row.kind}-${slug}.json`), `${JSON.stringify(row, null, 2)}\n`);
}

/** The row of a program that cannot be had on this machine. */
export function notTried(kind: Row['kind'], name: string, why: string): void {
  console.log(`not tried: ${name}: ${why}`);
  record({ kind, name, version: '', result: 'not tried', note: why });
}

/** Every row of a kind that is recorded, sorted by name. */
export function rows(kind: Row['kind']): Row[] {
  return readdirSync(ROWS)
    .filter((name) => name.startsWith(`${kind}-`) && name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(join(ROWS, name), 'utf8')) as Row)
    .sort((a, b) => a.name.localeCompare(b.name, 'en'));
}
