import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from '../harness/child';
import { LESSONS } from '../harness/publisher';
import { test } from './lesson';
import { BUILT, resultLine } from './programs';
import { notTried } from './report';
import { judge } from './seen';

test("GStreamer's whepsrc plays", async ({ server, teach, keep, skip }) => {
  const name = 'GStreamer whepsrc';
  const viewer = join(BUILT, 'gstreamer-viewer');
  if (!existsSync(viewer)) {
    notTried('player', name, 'It is built with the development files of GStreamer, which are missing.');
    return skip();
  }
  teach(LESSONS.baseline);
  await server.untilLive();
  const { webrtc_url: url, token } = await server.token();
  await judge({ name }, () => resultLine(keep(new Child(viewer, [url, token]))));
});
