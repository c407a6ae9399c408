import { expect, test } from 'vitest';
import { hostOf, isOwnDevice, isPrivateHost, larixLink, preferredServer } from './publish';

test('the host of a server', () => {
  expect(hostOf('rtmps://school.example:1936/live')).toBe('school.example');
  expect(hostOf('rtmp://192.168.1.5/live')).toBe('192.168.1.5');
  expect(hostOf('rtmp://[fd00::5]:2935/live')).toBe('[fd00::5]');
  expect(hostOf('nonsense')).toBe('');
});

test('hosts that no public authority vouches for', () => {
  const near =
    'localhost 127.0.0.1 10.0.0.1 172.16.0.1 172.31.9.9 192.168.1.5 169.254.1.1 100.64.0.1 [::1] [fd12::5] [fe80::1] school.local pi.lan schoolserver';
  for (const host of near.split(' ')) expect(isPrivateHost(host), host).toBe(true);
  const far = 'school.example stream.local.example 172.32.0.1 11.0.0.1 193.168.1.5 100.128.0.1 [2001:db8::1]';
  for (const host of far.split(' ')) expect(isPrivateHost(host), host).toBe(false);
  for (const host of ['localhost', 'a.localhost', '127.0.0.1', '[::1]'])
    expect(isOwnDevice(host), host).toBe(true);
  for (const host of ['192.168.1.5', 'school.local']) expect(isOwnDevice(host), host).toBe(false);
});

test('a server that phones can use', () => {
  const servers = (host: string) => [`rtmps://${host}:1936/live`, `rtmp://${host}/live`];
  expect(preferredServer(servers('192.168.1.5'))).toBe('rtmp://192.168.1.5/live');
  expect(preferredServer(servers('school.example'))).toBe('rtmps://school.example:1936/live');
  expect(preferredServer(['rtmps://10.0.0.1:1936/live']), 'the only one').toBe('rtmps://10.0.0.1:1936/live');
  expect(preferredServer(['rtmp://school.example/live'])).toBe('rtmp://school.example/live');
  expect(preferredServer([])).toBeUndefined();
});

test('the link that sets up Larix', () => {
  const link = larixLink('rtmp://[fd00::5]:2935/live', 'abc23', 'Maths & Физика #7');
  expect(link).toMatch(
    /^larix:\/\/set\/v1\?conn\[\]\[url\]=rtmp%3A%2F%2F%5Bfd00%3A%3A5%5D%3A2935%2Flive%2Fabc23&/,
  );
  const query = new URLSearchParams(link.split('?')[1]);
  expect(query.get('conn[][url]')).toBe('rtmp://[fd00::5]:2935/live/abc23');
  expect(query.get('conn[][name]')).toBe('Maths & Физика #7');
  expect(query.get('enc[vid][keyframe]')).toBe('1');
  expect(query.get('enc[vid][res]')).toBe('1280x720');
});
