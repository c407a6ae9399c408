import type { Route } from 'playwright-core';
import { expect, onTestFinished } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { Server } from '../harness/server';
import { Student } from '../harness/student';
import { until } from '../harness/until';

/** A request of the page has no answer for 10 s, after a pause of up to 15 s. */
const UNANSWERED_MS = 40_000;
const TOKEN = '**/api/token?*';
const WHEP = '**/live/*/whep';

test.for([
  { asked: TOKEN, status: 503, code: 'no_node', says: 'no_node', words: 'cannot show lessons yet' },
  { asked: TOKEN, status: 500, code: 'internal', says: 'error', words: 'answers with an error' },
  { asked: TOKEN, status: 502, code: undefined, says: 'server', words: 'The server does not answer' },
  { asked: WHEP, status: 429, code: 'rate_limited', says: 'rate_limited', words: 'Too many requests' },
  { asked: WHEP, status: 503, code: 'node_full', says: 'full', words: 'The server is full' },
  { asked: WHEP, status: 503, code: 'node_busy', says: 'busy', words: 'The server is busy' },
  { asked: WHEP, status: 422, code: 'offer_unusable', says: 'browser', words: 'This browser cannot play' },
  { asked: WHEP, status: 404, code: 'not_found', says: 'error', words: 'answers with an error' },
])('$status $code from $asked is told as it is, and tried again', async (row, { browser, server }) => {
  const student = await opened(browser, server);
  await student.page.route(row.asked, (route) => refuse(route, row.status, row.code));
  await student.page.goto(server.ready.watch_url);
  await student.says(row.says);
  expect(await student.announcement()).toContain(row.words);
  const { loads } = student;
  await student.page.unroute(row.asked);
  // Nobody publishes.
  await student.reaches('waiting');
  expect(student.loads).toBe(loads);
});

test.for([
  { status: 404, code: 'no_class', says: 'unknown_class', words: 'There is no class with this name' },
  { status: 403, code: undefined, says: 'forbidden', words: 'does not let you into this class' },
])('$status $code where tokens are given is final', async (row, { browser, server }) => {
  const student = await opened(browser, server);
  await student.page.route(TOKEN, (route) => refuse(route, row.status, row.code));
  await student.page.goto(server.ready.watch_url);
  await student.says(row.says);
  expect(await student.state()).toBe('denied');
  expect(await student.announcement()).toContain(row.words);
});

test('the wait that the server asks for is kept', async ({ browser, server }) => {
  const student = await opened(browser, server);
  const times: number[] = [];
  await student.page.route(TOKEN, (route) => {
    times.push(performance.now());
    return times.length > 1 ? route.continue() : refuse(route, 503, 'no_node', 4);
  });
  await student.page.goto(server.ready.watch_url);
  await student.reaches('waiting');
  // By itself the page would come again after half a second at most.
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(3_000);
});

test('a network with too many requests is told so, and let in when it has calmed down', async ({
  browser,
}) => {
  const config = '[coordinator]\ntokens_at_once = 2\ntokens_per_second = 1\n';
  const server = await Server.start({ config });
  onTestFinished(() => server.dispose());
  const student = await opened(browser, server);
  await until('a page that is refused', async () => {
    while (await server.token().then(Boolean, () => false));
    await student.page.goto(server.ready.watch_url);
    await student.page.waitForSelector('[data-state=waiting], [data-reason]');
    const words = await student.announcement();
    return words.includes('Too many requests come from your network') ? true : undefined;
  });
  await student.reaches('waiting');
});

test('a token that WHEP refuses is asked for anew, for as long as the server gives one', async ({
  browser,
  server,
  teach,
}) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  const student = await opened(browser, server);
  const { page } = student;
  const refused = new Set<string | undefined>();
  await page.route(WHEP, (route) => {
    refused.add(route.request().headers()['authorization']);
    return refuse(route, 401, 'token_invalid');
  });
  await page.goto(server.ready.watch_url);
  await student.says('token');
  expect(await student.announcement()).toContain('does not accept the permission of this page');
  await until('another token each time', () => (refused.size > 3 ? true : undefined));
  await page.unroute(WHEP);
  await student.plays(UNANSWERED_MS);
});

test('a server that says nothing is not waited for without end', async ({ browser, server, teach }) => {
  const student = await opened(browser, server, server.ready.watch_url);
  await student.reaches('waiting');
  server.process.signal('SIGSTOP');
  // The kernel still takes connections: nothing comes back on them.
  await student.says('server', UNANSWERED_MS);
  expect(await student.announcement()).toContain('The server does not answer');
  server.process.signal('SIGCONT');
  teach(LESSONS.baseline);
  await student.plays(UNANSWERED_MS);
  expect(student.loads).toBe(1);
});

test('nor is one that says nothing when it is asked for a token', async ({ browser }) => {
  const server = await Server.start({ isGuarded: true });
  onTestFinished(() => server.dispose());
  const student = await opened(browser, server, server.ready.watch_url);
  await student.says('pin_needed');
  server.process.signal('SIGSTOP');
  await student.page.getByLabel('PIN of the class').fill(server.pin);
  await student.page.getByRole('button', { name: 'Enter' }).click();
  await student.says('server', UNANSWERED_MS);
  server.process.signal('SIGCONT');
  await student.reaches('waiting', UNANSWERED_MS);
});

test('the home page lists what is live, and says so only if it knows', async ({ browser, server, teach }) => {
  const student = await opened(browser, server, `http://${server.ready.http}/`);
  const { page } = student;
  await page.getByText('No lesson is live at the moment.').waitFor();

  await page.route('**/api/v1/events', (route) => refuse(route, 500, 'internal'));
  await page.reload();
  await page.getByText('The server cannot list the lessons at the moment.').waitFor();
  await page.unroute('**/api/v1/events');
  await page.route('**/api/v1/events', (route) => route.abort());
  await page.reload();
  await page.getByText('The server does not answer.').waitFor();
  expect(await page.getByText('No lesson is live').count()).toBe(0);
  await page.unroute('**/api/v1/events');

  await page.getByText('No lesson is live at the moment.').waitFor();
  teach(LESSONS.baseline);
  // Without being loaded again.
  await page.getByRole('link', { name: server.ready.class }).click();
  await student.plays();
});

test('a browser without WebRTC is told that it cannot play', async ({ browser, server }) => {
  const student = await opened(browser, server);
  await student.page.addInitScript(() => Reflect.deleteProperty(window, 'RTCPeerConnection'));
  await student.page.goto(server.ready.watch_url);
  await student.says('browser');
  expect(await student.state()).toBe('denied');
  expect(await student.announcement()).toContain('This browser cannot play the lesson');
});

test('a browser that cannot time a request out is served all the same', async ({ browser, server }) => {
  const student = await opened(browser, server);
  await student.page.addInitScript(() => Reflect.deleteProperty(AbortSignal, 'timeout'));
  await student.page.goto(server.ready.watch_url);
  await student.reaches('waiting');
});

test('a way that is closed to media is told apart from a teacher who is silent', async ({
  browser,
  server,
  teach,
}) => {
  const teacher = teach(LESSONS.baseline);
  await server.untilLive();
  const student = await opened(browser, server);
  const { page } = student;
  await page.route(WHEP, closed);
  await page.goto(server.ready.watch_url);
  await student.says('network', UNANSWERED_MS);
  expect(await student.announcement()).toContain('No media gets through');
  await page.unroute(WHEP);
  await student.plays(UNANSWERED_MS);

  // A phone that has lost its network: the connection is there and nothing comes.
  teacher.signal('SIGSTOP');
  await page.locator('[data-scene=trouble]').waitFor();
  expect(await student.announcement()).toContain('No picture and no sound are coming in');
  await page.locator('[data-scene=teacher-away]').waitFor();
  expect(await student.announcement()).toContain('app sends nothing');
  await teacher.kill();
  teach(LESSONS.baseline);
  await student.plays(UNANSWERED_MS);
});

/** A page that is blank unless it is given an address, so that a test can come before its requests. */
async function opened(...[browser, server, url]: Parameters<typeof Student.open>): Promise<Student> {
  const student = await Student.open(browser, server, url ?? 'about:blank');
  onTestFinished(() => student.dispose());
  return student;
}

/** Answers as docs/api.md says, or as a proxy does that knows no codes. */
function refuse(route: Route, status: number, code?: string, seconds?: number): Promise<void> {
  const headers = {
    'Access-Control-Allow-Origin': '*',
    'Access-Control-Expose-Headers': 'Retry-After',
    ...(seconds === undefined ? {} : { 'Retry-After': String(seconds) }),
  };
  if (code === undefined) return route.fulfill({ status, headers, body: '<h1>no</h1>' });
  const contentType = 'application/problem+json';
  return route.fulfill({ status, headers, contentType, body: JSON.stringify({ status, code }) });
}

/** The server's answer with an address for media where nobody is (RFC 5737). */
async function closed(route: Route): Promise<void> {
  const response = await route.fetch();
  const body = (await response.text()).replace(/^(a=candidate:\d+ \d+ \w+ \d+) \S+/gm, '$1 192.0.2.1');
  return route.fulfill({ response, body });
}
