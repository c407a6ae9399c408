import { expect } from 'vitest';
import { records } from '../harness/database';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { until } from '../harness/until';

test('a lesson survives the death of its server', async ({ server, teach, student }) => {
  const teacher = teach(LESSONS.baseline);
  await student.plays();
  const connections = await student.connections();
  const before = await until('both sessions on record', () => {
    const { streams, viewers } = records(server.dataDirectory);
    const active = streams.some(({ status }) => status === 'active');
    return active && viewers.some(({ connected_at }) => connected_at !== null)
      ? { streams, viewers }
      : undefined;
  });
  const { key } = server.ready;
  const classes = await server.classes();

  await server.crashAndRestart();
  await teacher.exited;
  expect(server.ready.key).toBe(key);
  expect(await server.classes()).toEqual(classes);
  teach(LESSONS.baseline);

  await until(
    'a new connection',
    async () => ((await student.connections()) > connections ? true : undefined),
    30_000,
  );
  await student.plays();
  expect(student.loads, 'the page recovered without being loaded again').toBe(1);

  // Nothing was lost, and the sessions that the crash cut off are closed and not for ever open.
  const after = await until('the new sessions on record', () => {
    const found = records(server.dataDirectory);
    const more = found.viewers.some(
      ({ viewer_id, connected_at }) =>
        connected_at !== null && !before.viewers.some((old) => old.viewer_id === viewer_id),
    );
    return more ? found : undefined;
  });
  for (const { session_id } of before.streams) {
    const kept = after.streams.find((stream) => stream.session_id === session_id);
    expect(kept).toMatchObject({ status: 'stopped', ended_at: expect.any(Number) });
  }
  for (const { viewer_id, stream_session_id } of before.viewers) {
    const kept = after.viewers.find((viewer) => viewer.viewer_id === viewer_id);
    expect(kept).toMatchObject({ stream_session_id, disconnected_at: expect.any(Number) });
  }
  expect(after.streams.filter(({ status }) => status === 'active')).toHaveLength(1);
});
