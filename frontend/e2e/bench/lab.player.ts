import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { launch } from '../harness/browser';
import { forgetPictures, pictures, watchPictures } from '../harness/pictures';
import { Student } from '../harness/student';
import { until } from '../harness/until';

/**
 * Chromium as one of those who watch in `lectern-load faults`, which starts this on a machine of its lab and says in the file
 * that `LAB_TASK` names what to watch. Run by `vitest --mode lab`, never by the suites.
 */
interface Task {
  /** The page. */
  url: string;
  /** A file that this makes when the lesson plays: at which node. */
  ready: string;
  /** Files that are there from the moment on at which it counts, and at the end. */
  begun: string;
  over: string;
  /** Where the figures go. */
  output: string;
}

/** On a machine that does other things. */
const PLAYS_MS = 60_000;

/** Longer than anything that happens in the lab. */
const LESSON_MS = 1_200_000;

test('watches in the lab', { timeout: LESSON_MS }, async () => {
  const path = process.env['LAB_TASK'];
  if (path === undefined) throw new Error('LAB_TASK names no file: this is started by `make test-cluster`');
  const task = JSON.parse(readFileSync(path, 'utf8')) as Task;
  const exists = (file: string) => () => existsSync(file) || undefined;
  const browser = await launch();
  try {
    const context = await browser.newContext({ viewport: { width: 1_280, height: 800 }, locale: 'en-GB' });
    const student = await Student.within(context, task.url);
    await student.plays(PLAYS_MS);
    await watchPictures(student);
    write(task.ready, { node: nodeOf(student) });
    await until('the beginning', exists(task.begun), LESSON_MS);
    await forgetPictures(student);
    const sessions = await student.connections();
    await until('the end', exists(task.over), LESSON_MS);
    // What cannot play shows in the figures.
    const isBack = await student.plays(PLAYS_MS).then(
      () => true,
      () => false,
    );
    const newSessions = (await student.connections()) - sessions;
    write(task.output, { ...(await pictures(student)), isBack, newSessions, loads: student.loads });
  } finally {
    await browser.close();
  }
});

/** Where the page posted its offer last. */
function nodeOf(student: Student): string {
  const posts = student.requests.filter(
    (request) => request.method() === 'POST' && /\/whep(\?|$)/.test(request.url()),
  );
  return new URL(posts.at(-1)?.url() ?? 'http://nowhere').host;
}

/** All at once: somebody waits for the file. */
function write(file: string, value: object): void {
  writeFileSync(`${file}.part`, JSON.stringify(value));
  renameSync(`${file}.part`, file);
}
