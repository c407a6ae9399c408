import { expect, test } from 'vitest';
import { EventParser } from './events';

const STREAM =
  ': hello\n\nevent: status\ndata: {"a":1}\n\nevent: complete\r\ndata: {}\r\n\r\ndata: one\ndata: two\n\nevent: none\n\n';

function parsed(pieces: string[]): string[] {
  const events: string[] = [];
  const parser = new EventParser((name, data) => events.push(`${name}=${data}`));
  for (const piece of pieces) parser.push(piece);
  return events;
}

test('events are read wherever the stream is cut', () => {
  const whole = parsed([STREAM]);
  expect(whole).toEqual(['status={"a":1}', 'complete={}', '=one\ntwo']);
  for (let at = 1; at < STREAM.length; at += 1) {
    expect(parsed([STREAM.slice(0, at), STREAM.slice(at)]), `cut at ${at}`).toEqual(whole);
  }
  expect(parsed([...STREAM])).toEqual(whole);
});

test('an event without an end is given up', () => {
  const parser = new EventParser(() => undefined);
  expect(() => {
    for (let i = 0; i < 40; i += 1) parser.push('x'.repeat(1 << 16));
  }).toThrow('no end');
});
