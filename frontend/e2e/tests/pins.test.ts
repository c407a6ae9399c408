import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { expect, onTestFinished } from 'vitest';
import { chromiumOptions } from '../harness/browser';
import { test } from '../harness/lesson';
import { Server } from '../harness/server';
import { Student } from '../harness/student';
import { until } from '../harness/until';

/** Wrong PINs for one class before newcomers wait (`coordinator/src/guesses.rs`), and the one that makes them. */
const GUESSES = 101;
/** The longest that newcomers wait, and a little. */
const WAIT_MAX_MS = 70_000;

test('the PIN of a class is asked for in words, until it is right', async ({ browser }) => {
  const server = await Server.start({ isGuarded: true });
  onTestFinished(() => server.dispose());
  const student = await Student.open(browser, server);
  onTestFinished(() => student.dispose());
  const { page } = student;
  const [field, enter] = [page.getByLabel('PIN of the class'), page.getByRole('button', { name: 'Enter' })];
  const asked = () => student.requests.filter((request) => request.url().includes('/api/token')).length;
  const enters = async (pin: string) => {
    await field.fill(pin);
    await enter.click();
  };

  await student.says('pin_needed');
  expect(await student.announcement()).toBe('This class asks for its PIN.');
  await enters('  ');
  await enters('пароль');
  await student.says('pin_unusable');
  expect(await student.announcement()).toContain('A PIN has only digits');
  expect(asked(), 'what no class can have is not sent').toBe(1);

  await enters('000-000');
  await student.says('pin_wrong');
  expect(await student.announcement()).toContain('The PIN or the name of the class is wrong');

  await guess(server, GUESSES);
  let before = 0;
  await until('a wrong PIN while newcomers wait', async () => {
    before = asked();
    await enters('000-001');
    await student.reaches('denied');
    return (await student.reason()) === 'pin_attempts' ? true : undefined;
  });
  expect(await student.announcement()).toContain('Too many wrong PINs');
  await page.getByText(/You can try again in \d+ seconds?\./).waitFor();
  expect(await field.inputValue(), 'what was entered stays').toBe('000-001');
  expect(await enter.isDisabled()).toBe(true);
  await field.press('Enter');
  await student.says('pin_again', WAIT_MAX_MS);
  expect(await student.announcement()).toBe('You can try again now.');
  expect(asked(), 'nothing is sent in the meantime').toBe(before + 1);

  await enters(inDigitsFrom(server.pin, '\u0660'));
  await student.reaches('waiting');
  expect(student.loads).toBe(1);
});

test('the home page of a server that names no classes has the form alone', async ({ browser }) => {
  const server = await Server.start({ isGuarded: true });
  onTestFinished(() => server.dispose());
  const student = await Student.open(browser, server, `http://${server.ready.http}/`);
  onTestFinished(() => student.dispose());
  const { page } = student;
  await until('the answer', () => student.answered('/api/v1/events'));
  await page.getByLabel('Name of the class').fill(server.ready.class);
  expect(await page.getByText(/live now|No lesson is live|The server/i).count()).toBe(0);
  await page.getByRole('button', { name: 'Open' }).click();
  await student.says('pin_needed');
});

test('a browser that keeps nothing for the page is let in like any other', async ({ server }) => {
  const home = mkdtempSync(join(tmpdir(), 'lectern-profile-'));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  // What "block all cookies" in Chromium's settings writes: whatever a page would keep is refused with it.
  const settings = { profile: { default_content_setting_values: { cookies: 2 } } };
  mkdirSync(join(home, 'Default'));
  writeFileSync(join(home, 'Default', 'Preferences'), JSON.stringify(settings));
  const context = await chromium.launchPersistentContext(home, chromiumOptions());
  onTestFinished(() => context.close());
  const student = await Student.within(context, server.ready.watch_url);

  const look = () => student.page.evaluate(() => localStorage.length);
  await expect(look()).rejects.toThrow('SecurityError');
  await student.reaches('waiting');
});

/** Enters wrong PINs from this machine's address. */
async function guess(server: Server, times: number): Promise<void> {
  const url = `http://${server.ready.http}/api/token?user_type=student&user_id=guess&class_id=${server.ready.class}`;
  for (let i = 0; i < times; i++)
    await fetch(url, { method: 'POST', headers: { 'X-Class-Pin': `guess-${i}` } });
}

/** A PIN with the digits of another script, whose zero is given. */
function inDigitsFrom(pin: string, zero: string): string {
  return pin.replace(/\d/g, (digit) => String.fromCodePoint((zero.codePointAt(0) ?? 0) + Number(digit)));
}
