import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { ClusterNode } from '../harness/node';
import { pictures, watchPictures } from '../harness/pictures';
import { LESSONS, type Lesson, publish } from '../harness/publisher';
import { Server } from '../harness/server';
import { Student } from '../harness/student';
import { until } from '../harness/until';

/** A coordinator with two nodes: the one that a student is sent to, and the one that his teacher publishes to. */
const clusterTest = test.extend<{
  lesson: Lesson;
  server: Server;
  cluster: { near: ClusterNode; origin: ClusterNode };
}>({
  lesson: LESSONS.baseline,
  server: async ({}, use) => {
    const server = await Server.start({ command: 'coordinator' });
    await use(server);
    await server.dispose();
  },
  cluster: async ({ lesson, server, student, keep }, use) => {
    const nodes = await Promise.all(['a', 'b'].map((name) => ClusterNode.join(server, name)));
    try {
      // The page waits for the lesson where it has been sent to.
      const near = await until('the page at a node', async () => nodes.find((node) => isAt(student, node)));
      const origin = nodes.find((node) => node !== near);
      if (origin === undefined) throw new Error('there is one node only');
      keep(publish(lesson, origin.publishUrl(server)));
      await student.reaches('live', 40_000);
      await use({ near, origin });
    } finally {
      await Promise.all(nodes.map((node) => node.dispose()));
    }
  },
});

/** Whether the page asked this node last. */
function isAt(student: Student, { ready }: ClusterNode): boolean {
  const asked = student.requests.filter(
    (request) => request.method() === 'POST' && /\/whep(\?|$)/.test(request.url()),
  );
  return new URL(asked.at(-1)?.url() ?? 'http://nowhere').host === ready.whep;
}

clusterTest(
  'a student is carried over when its node drains, and hardly notices',
  async ({ cluster, student }) => {
    const { near, origin } = cluster;
    await student.plays();
    await watchPictures(student);
    const before = await student.connections();
    const began = performance.now();
    await near.drain();
    await near.process.exited;
    const tookMs = performance.now() - began;
    expect(isAt(student, origin), 'it has gone to the other node').toBe(true);
    await student.plays();
    const { longestMs } = await pictures(student);
    console.log(
      `drained in ${tookMs.toFixed(0)} ms, the longest picture stood for ${longestMs.toFixed(0)} ms`,
    );
    expect((await student.connections()) - before, 'one session more').toBe(1);
    expect(student.loads).toBe(1);
    // A picture stands for 33 ms; the machine may be busy.
    expect(longestMs).toBeLessThan(1_000);
    expect(tookMs).toBeLessThan(10_000);
  },
);

clusterTest.extend<{ lesson: Lesson }>({ lesson: LESSONS.audioOnly })(
  'a student who listens to a lesson of sound alone is carried over too',
  async ({ cluster, student }) => {
    const { near, origin } = cluster;
    const before = await student.connections();
    const began = performance.now();
    await near.drain();
    await near.process.exited;
    // Who cannot be moved is cut off after half a minute.
    expect(performance.now() - began).toBeLessThan(9_000);
    expect(isAt(student, origin), 'it has gone to the other node').toBe(true);
    const { audioEnergy } = await student.playback();
    await until('more sound', async () => (await student.playback()).audioEnergy > audioEnergy || undefined);
    expect((await student.connections()) - before, 'one session more').toBe(1);
    expect(await student.state()).toBe('live');
  },
);

clusterTest('a student whose node is killed plays again at another one', async ({ cluster, student }) => {
  const { near, origin } = cluster;
  await student.plays();
  await watchPictures(student);
  await near.process.kill();
  await until('a session at the other node', async () => (isAt(student, origin) ? true : undefined), 15_000);
  await student.plays();
  const { longestMs } = await pictures(student);
  console.log(`killed: the longest picture stood for ${longestMs.toFixed(0)} ms`);
  expect(longestMs).toBeLessThan(10_000);
  expect(student.loads).toBe(1);
});
