import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** One line of the table in docs/interop.md. */
export interface Row {
  kind: 'publisher' | 'player';
  /** The program as people know it, with how it was used: "OBS Studio, as installed", "GStreamer whepsrc". */
  name: string;
  /** As the program itself says it. */
  version: string;
  /** What was seen: "picture and sound", "sound", "picture", "nothing", "not tried". */
  result: string;
  /** For players from the POST, for publishers from the start of the program, to the first decoded picture or sound. */
  firstFrameMs?: number;
  /** A sentence that a user understands. Required unless the result is "picture and sound". */
  note?: string;
}

const FOLDER = join(import.meta.dirname, '..', '..', '..', 'target', 'interop');

/** Keeps a row for the table, in a file of its own. */
export function record(row: Row): void {
  const slug = row.name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, `${row.kind}-${slug}.json`), `${JSON.stringify(row, null, 2)}\n`);
}
