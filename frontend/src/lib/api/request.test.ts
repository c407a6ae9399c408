import { expect, test } from 'vitest';
import { reasonOf } from '../whep/reason';
import { Refused } from './request';

test('an error says its status, its code and when to come again', async () => {
  const headers = { 'Content-Type': 'application/problem+json', 'Retry-After': '7' };
  const answer = new Response('{"status":429,"code":"pin_attempts"}', { status: 429, headers });
  const expected = { status: 429, code: 'pin_attempts', retryAfterMs: 7000 };
  expect(await Refused.from(answer)).toMatchObject(expected);
});

test('an error that is no problem has a status only', async () => {
  for (const body of ['<html>bad gateway</html>', '', 'null', '{"code":5}', '[]']) {
    const expected = { status: 502, code: undefined, retryAfterMs: undefined };
    expect(await Refused.from(new Response(body, { status: 502 })), body).toMatchObject(expected);
  }
});

test('a wait is used only if a timer can wait for it', async () => {
  const waits = { '-1': undefined, soon: undefined, '1e999': undefined, '0': 0, '99999999999': 3_600_000 };
  for (const [header, expected] of Object.entries(waits)) {
    const answer = new Response('', { status: 503, headers: { 'Retry-After': header } });
    expect((await Refused.from(answer)).retryAfterMs, header).toBe(expected);
  }
});

test('what people are told of a request that failed', () => {
  const told = (status: number, code?: string) => reasonOf(new Refused(status, code, undefined));
  expect(told(429, 'rate_limited')).toBe('rate_limited');
  expect(told(429)).toBe('rate_limited');
  expect(told(503, 'no_node')).toBe('no_node');
  expect(told(503, 'node_full')).toBe('full');
  expect(told(503, 'node_busy')).toBe('busy');
  expect(told(422, 'offer_unusable')).toBe('browser');
  expect(told(500, 'internal')).toBe('error');
  expect(told(404)).toBe('error');
  for (const status of [502, 503, 504]) expect(told(status), 'from a proxy').toBe('server');
  expect(reasonOf(new TypeError('Failed to fetch'))).toBe('server');
  expect(reasonOf(new DOMException('', 'TimeoutError'))).toBe('server');
});
