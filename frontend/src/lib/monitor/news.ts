import type { Lesson } from '../api/events';
import { isTroubled, nameOf } from './face';
import { strings } from './strings';

/** From one announcement to the next. */
const PAUSE_MS = 10_000;
/** What changes together is said together. */
const GATHER_MS = 1_000;
/** So many sentences are said at a time. */
const SENTENCES_MAX = 3;

/** Says how problems change, for people who do not see the wall, and not too often. */
export class News {
  /** What was said of each class that was in trouble. */
  #said = new Map<string, string>();
  #lessons: ReadonlyMap<string, Lesson> = new Map();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #saidAt = -Infinity;
  #isFirst = true;

  constructor(private readonly say: (text: string) => void) {}

  /** These are the lessons now. What there was at the beginning is no news. */
  look(lessons: ReadonlyMap<string, Lesson>): void {
    this.#lessons = lessons;
    if (this.#isFirst) {
      this.#isFirst = false;
      this.#said = this.#troubles();
      return;
    }
    if (this.#timer !== undefined || this.#changes().length === 0) return;
    const waitMs = Math.max(GATHER_MS, this.#saidAt + PAUSE_MS - Date.now());
    this.#timer = setTimeout(() => this.#tell(), waitMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isFirst = true;
  }

  #tell(): void {
    this.#timer = undefined;
    const changes = this.#changes();
    if (changes.length === 0) return;
    this.#said = this.#troubles();
    this.#saidAt = Date.now();
    const more = changes.length - SENTENCES_MAX;
    const sentences = changes.slice(0, SENTENCES_MAX);
    this.say([...sentences, ...(more > 0 ? [strings.news.more(more)] : [])].join(' '));
  }

  #troubles(): Map<string, string> {
    const troubled = [...this.#lessons.values()].filter(isTroubled);
    return new Map(troubled.map((lesson) => [lesson.class, sentence(lesson)]));
  }

  #changes(): string[] {
    const now = this.#troubles();
    const begun = [...now].filter(([name, text]) => this.#said.get(name) !== text).map(([, text]) => text);
    const over = [...this.#said.keys()].filter((name) => !now.has(name) && this.#lessons.has(name));
    return [...begun, ...over.map((name) => strings.news.over(this.#nameOf(name)))];
  }

  #nameOf(name: string): string {
    const lesson = this.#lessons.get(name);
    return lesson === undefined ? name : nameOf(lesson);
  }
}

function sentence(lesson: Lesson): string {
  const [problem] = lesson.problems;
  const name = nameOf(lesson);
  if (lesson.state === 'reconnecting' || problem === undefined) return strings.news.away(name);
  return strings.news.problem(name, problem.text);
}
