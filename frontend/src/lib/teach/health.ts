import type { Lesson } from '../api/events';

/** A problem, and since when this page knows of it; milliseconds as `Date.now()` has them. */
export interface Sighting {
  code: string;
  text: string;
  since: number;
}

export interface Seen {
  /** Since when it is as good, or as bad, as it is; 0 while there is nothing to say of it. */
  since: number;
  problems: readonly Sighting[];
}

/** When problems were seen first: the server says only which there are. */
export class Sightings {
  #seen: Seen = { since: 0, problems: [] };

  look({ state, problems }: Lesson, now: number): Seen {
    // An app that is refused is told why, and is never live.
    if (state !== 'live' && problems.length === 0) {
      this.#seen = { since: 0, problems: [] };
      return this.#seen;
    }
    const before = this.#seen;
    const known = new Map(before.problems.map(({ code, since }) => [code, since]));
    const sighted = problems.map(({ code, text }) => ({ code, text, since: known.get(code) ?? now }));
    const isSame = (before.problems.length === 0) === (sighted.length === 0) && before.since > 0;
    this.#seen = { since: isSame ? before.since : now, problems: sighted };
    return this.#seen;
  }
}
