import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { Child } from '../harness/child';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { BUILT, CLIENTS, decoded, inFolder, resultLine } from './programs';
import { notTried, ROOT } from './report';
import { judge, type Seen } from './seen';

/** What programs that keep files say of themselves. */
interface Kept {
  version: string;
  firstMs: number;
}

/** A minute with pion and an RSA key: long enough for every timer of DTLS and ICE to have run out. */
const MINUTE_S = 60;

for (const [name, extra] of [
  ['aiortc', []],
  ['aiortc, an RSA certificate', ['rsa']],
] as const) {
  test(`${name} plays`, async ({ server, teach, keep }) => {
    teach(LESSONS.baseline);
    await server.untilLive();
    const { webrtc_url: url, token } = await server.token();
    await judge({ name }, async () => {
      const viewer = join(ROOT, 'lectern', 'tests', 'aiortc', 'viewer.py');
      const program = keep(new Child(join(ROOT, '.venv', 'bin', 'python'), [viewer, url, token, ...extra]));
      const said = await resultLine<Seen & { version: string; frames: number }>(program);
      return { ...said, pictures: said.frames };
    });
  });
}

for (const [name, extra, seconds] of [
  ['pion', [], 4],
  ['pion, an RSA certificate', ['-rsa'], MINUTE_S],
] as const) {
  test(`${name} plays for ${seconds} s`, async ({ server, teach, keep, skip }) => {
    const viewer = join(BUILT, 'pion-viewer');
    if (!existsSync(viewer)) {
      notTried('player', name, 'It is built with Go, which is missing.');
      return skip();
    }
    teach(LESSONS.baseline);
    await server.untilLive();
    const { webrtc_url: url, token } = await server.token();
    const note = seconds === MINUTE_S ? { note: 'Played for 60 s.' } : {};
    await judge({ name, ...note }, () =>
      inFolder(async (folder) => {
        const args = [...extra, '-seconds', String(seconds), '-to', folder, url, token];
        const said = await resultLine<Kept>(keep(new Child(viewer, args)), (seconds + 60) * 1_000);
        const found = await decoded(join(folder, 'picture.h264'), join(folder, 'sound.ogg'));
        // Until the end: a tenth is left to a machine that is busy with other things.
        expect(found.pictures).toBeGreaterThan(0.9 * 30 * seconds);
        expect(found.samples).toBeGreaterThan(0.9 * 48_000 * seconds);
        return { ...said, ...found };
      }),
    );
  });
}

test('werift plays', async ({ server, teach, keep }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  const { webrtc_url: url, token } = await server.token();
  const note = 'Offers VP8 alone unless its codecs are set: `video: [useH264()]`.';
  await judge({ name: 'werift', note }, () =>
    inFolder(async (folder) => {
      const file = join(folder, 'lesson.webm');
      const viewer = join(CLIENTS, 'npm', 'werift-viewer.js');
      const said = await resultLine<Kept>(keep(new Child(process.execPath, [viewer, file, url, token])));
      return { ...said, ...(await decoded(file, file)) };
    }),
  );
});
