import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { launch } from '../harness/browser';
import { untilClean } from '../harness/clean';
import { faults } from '../harness/faults';
import { LESSONS, publish } from '../harness/publisher';
import { Server } from '../harness/server';
import { between } from '../harness/stats';
import { Student } from '../harness/student';
import { Authority } from '../harness/trust';
import { until } from '../harness/until';

/** Frames that are decoded after the change: a second of the lesson. */
const FRAMES_AFTER = 30;

/** The serial number of the certificate that new connections to a port are shown. */
function serialNumber(address: string): Promise<string> {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port), rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.once('error', reject);
  });
}

test('Chromium plays over https while the certificate is replaced, and a new student is shown the new one', async () => {
  const authority = new Authority();
  onTestFinished(() => authority.dispose());
  const server = await Server.start({ config: authority.config });
  onTestFinished(() => server.dispose());
  const publisher = publish(LESSONS.baseline, server.publishUrl);
  onTestFinished(() => publisher.kill());
  const browser = await launch(undefined, { HOME: authority.home });
  onTestFinished(() => browser.close());

  expect(server.ready.watch_url).toMatch(/^https:/);
  const student = await Student.open(browser, server);
  await student.plays();
  const addresses = [server.ready.http, server.ready.whep];
  const asked = student.requests.map((request) => new URL(request.url()));
  for (const address of addresses)
    expect(asked.some(({ protocol, host }) => protocol === 'https:' && host === address)).toBe(true);
  expect(asked.filter(({ protocol }) => protocol === 'http:')).toEqual([]);

  const connections = await student.connections();
  await untilClean(server.process.pid, async () => {
    const played = await student.playback();
    const old = await Promise.all(addresses.map(serialNumber));
    authority.renew();
    await until('the new certificate at both ports', async () => {
      const shown = await Promise.all(addresses.map(serialNumber));
      return shown.every((number) => !old.includes(number)) ? true : undefined;
    });
    const { framesDecoded } = await student.playback();
    const later = await until('frames after the change', async () => {
      const now = await student.playback();
      return now.framesDecoded > framesDecoded + FRAMES_AFTER ? now : undefined;
    });
    const { freezeCount } = between(played, later);
    return faults({ [`${freezeCount} freezes`]: freezeCount === 0 });
  });
  expect(await student.connections(), 'the session goes on').toBe(connections);

  // A browser of its own, so that no connection and no session of TLS is taken up again.
  const newcomer = await launch(undefined, { HOME: authority.home });
  onTestFinished(() => newcomer.close());
  const late = await Student.open(newcomer, server);
  await late.plays();
});
