import { expect, test } from 'vitest';
import { endpoint } from './token';

test('the token does not stay in the address that the page asks', () => {
  const url = 'http://school.example:8889/live/lesson/whep?jwt=a.b.c';
  expect(endpoint(url, 'smooth')).toBe('http://school.example:8889/live/lesson/whep');
  expect(endpoint(url, 'low')).toBe('http://school.example:8889/live/lesson/whep?latency=low');
});

test('an address without a token is left as it is', () => {
  const url = 'https://[fd00::5]/live/lesson/whep';
  expect(endpoint(url, 'smooth')).toBe(url);
  expect(endpoint(`${url}?tier=low`, 'low')).toBe(`${url}?tier=low&latency=low`);
});
