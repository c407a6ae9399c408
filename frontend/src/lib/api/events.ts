import { Refused } from './request';

/** Where a lesson is, as docs/api.md has it. */
export type LessonState = 'offline' | 'starting' | 'live' | 'reconnecting' | 'ended' | 'removed';

/** What the server says of the lesson of a class. */
export interface Lesson {
  class: string;
  /** The name of the class for people. */
  name: string;
  state: LessonState;
  /** Milliseconds since 1970, by the server's clock. */
  since_ms: number | null;
  viewers: number;
  has_video: boolean;
  has_audio: boolean;
  width: number;
  height: number;
  bitrate_bps: number;
  /** In sentences for the teacher. */
  problems: { code: string; text: string }[];
}

/** One event: its name and its data. */
export type OnEvent = (name: string, data: string) => void;

/** Bytes of an event that is not one of ours. */
const EVENT_MAX = 1 << 20;

/**
 * Reads events until the server ends them, or fails. Who asks says so in a header, which `EventSource` cannot send.
 * `onSign` is called for whatever comes, empty lines included.
 */
export async function readEvents(
  url: string,
  headers: Record<string, string>,
  signal: AbortSignal,
  onEvent: OnEvent,
  onSign: () => void,
): Promise<void> {
  const response = await fetch(url, { headers, signal, cache: 'no-store' });
  if (!response.ok) throw await Refused.from(response);
  onSign();
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  const decoder = new TextDecoder();
  const parser = new EventParser(onEvent);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onSign();
    parser.push(decoder.decode(value, { stream: true }));
  }
}

/** Takes a stream of server-sent events apart, wherever its pieces begin and end. */
export class EventParser {
  #rest = '';
  #name = '';
  #data: string[] = [];

  constructor(private readonly onEvent: OnEvent) {}

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > EVENT_MAX) throw new Error('an event has no end');
    for (const line of lines) this.#line(line.replace(/\r$/, ''));
  }

  #line(line: string): void {
    if (line === '') {
      if (this.#data.length > 0) this.onEvent(this.#name, this.#data.join('\n'));
      this.#name = '';
      this.#data = [];
      return;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (field === 'event') this.#name = value ?? '';
    if (field === 'data') this.#data.push(value ?? '');
  }
}
