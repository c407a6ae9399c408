import { describe, expect, it } from 'vitest';
import { Backoff } from './backoff';
import { applyRestart, credentialsOf, writeFragment } from './fragment';
import { iceServersOf } from './link';
import { picturelessOf, readStats } from './stats';

describe('backoff', () => {
  it('grows, stays within its bounds, and obeys Retry-After', () => {
    const backoff = new Backoff(1000, 15_000, () => 1);
    expect([backoff.next(), backoff.next(), backoff.next()]).toEqual([1000, 2000, 4000]);
    expect(backoff.next(60_000)).toBe(60_000);
    for (let i = 0; i < 50; i++) expect(backoff.next()).toBeLessThanOrEqual(15_000);
    backoff.reset();
    expect(backoff.next()).toBe(1000);
    expect(new Backoff(1000, 15_000, () => 0).next()).toBe(500);
  });
});

describe('fragments', () => {
  it('carry the credentials for the whole session, and name no section', () => {
    const text = writeFragment({ ufrag: 'abcd', pwd: 'secret' });
    expect(text).toBe('a=ice-ufrag:abcd\r\na=ice-pwd:secret\r\n');
    expect(credentialsOf(text)).toEqual({ ufrag: 'abcd', pwd: 'secret' });
  });

  it('change the credentials of every section of an answer', () => {
    const answer =
      'v=0\r\nm=video\r\na=ice-ufrag:old\r\na=ice-pwd:old\r\nm=audio\r\na=ice-ufrag:old\r\na=ice-pwd:old\r\n';
    const restarted = applyRestart(answer, 'a=ice-ufrag:new\r\na=ice-pwd:newer\r\n');
    expect(restarted).not.toContain('old');
    expect(restarted.match(/a=ice-ufrag:new/g)).toHaveLength(2);
    expect(() => applyRestart(answer, 'a=nothing')).toThrow();
  });
});

describe('a lesson without a picture', () => {
  const stats = readStats([]);

  it('is said to be sound only if nothing of a picture comes', () => {
    const heard = { ...stats, audioPackets: 51 };
    expect(picturelessOf(heard, true)).toBe('soundOnly');
    expect(picturelessOf({ ...heard, videoBytes: 1200 }, true)).toBe('notShown');
    expect(picturelessOf({ ...heard, videoBytes: 1200, frames: 1 }, true)).toBeUndefined();
    expect(picturelessOf(heard, false)).toBe('noH264');
    expect(picturelessOf({ ...stats, audioPackets: 50 }, true)).toBeUndefined();
  });
});

describe('Link', () => {
  it('names the ICE servers and nothing else', () => {
    const header =
      '<stun:stun.example>; rel="ice-server", <turn:t.example?transport=udp>; rel="ice-server"; ' +
      'username="u"; credential="c"; credential-type="password", </x>; rel="next"';
    expect(iceServersOf(header)).toEqual([
      { urls: 'stun:stun.example' },
      { urls: 'turn:t.example?transport=udp', username: 'u', credential: 'c' },
    ]);
    expect(iceServersOf(null)).toEqual([]);
  });
});

describe('statistics', () => {
  it('are rates since the report before', () => {
    const report = (bytes: number, atMs: number): Map<string, Record<string, unknown>> =>
      new Map([
        ['v', { type: 'inbound-rtp', kind: 'video', bytesReceived: bytes, framesDecoded: 3 }],
        [
          'a',
          {
            type: 'inbound-rtp',
            kind: 'audio',
            bytesReceived: 0,
            totalSamplesReceived: 200,
            concealedSamples: 1,
          },
        ],
        ['t', { type: 'transport', timestamp: atMs, srtpCipher: 'AEAD_AES_128_GCM' }],
      ]);
    const first = readStats(report(0, 1000));
    const second = readStats(report(125_000, 2000), first);
    expect(second.bitrateKbps).toBe(1000);
    expect(second.concealedPercent).toBe(0.5);
    expect(second).toMatchObject({ frames: 3, cipher: 'AEAD_AES_128_GCM' });
  });
});
