import type { Browser } from 'playwright-core';
import { test as base } from 'vitest';
import { launch, Probe } from './browser';
import type { Child } from './child';
import { type Lesson, publish } from './publisher';
import { Server } from './server';
import { Student } from './student';

interface Fixtures {
  /** Debian's Chromium, one per file. */
  browser: Browser;
  /** A server of the test's own, with an empty database. */
  server: Server;
  /** Starts a teacher's encoder; it stops with the test. `target` is by default the server's class. */
  teach: (lesson: Lesson, target?: string) => Child;
  /** Keeps any other publisher for the length of the test. */
  keep: (publisher: Child) => Child;
  /** The bare page with the tests' own viewer. */
  probe: Probe;
  /** The product's own page, opened on the server's class. */
  student: Student;
}

/** vitest's `test` with a server, a teacher and a class, each closed by the scope that opened it. */
export const test = base.extend<Fixtures>({
  browser: [
    async ({}, use) => {
      const browser = await launch();
      await use(browser);
      await browser.close();
    },
    { scope: 'file' },
  ],
  server: async ({}, use) => {
    const server = await Server.start();
    await use(server);
    await server.dispose();
  },
  keep: async ({}, use) => {
    const kept: Child[] = [];
    await use((publisher) => {
      kept.push(publisher);
      return publisher;
    });
    // SIGKILL, because a test may have stopped (SIGSTOP) its publisher, and a stopped process heeds nothing else.
    await Promise.all(kept.map((publisher) => publisher.kill()));
  },
  teach: async ({ server, keep }, use) => {
    await use((lesson, target = server.publishUrl) => keep(publish(lesson, target)));
  },
  probe: async ({ browser }, use) => {
    const probe = await Probe.open(browser);
    await use(probe);
    await probe.dispose();
  },
  student: async ({ browser, server }, use) => {
    const student = await Student.open(browser, server);
    await use(student);
    await student.dispose();
  },
});
