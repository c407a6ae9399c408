import { expect, onTestFinished, test } from 'vitest';
import { launch } from '../harness/browser';
import { Network } from '../harness/namespaces';
import { LESSONS, publish } from '../harness/publisher';
import { Server } from '../harness/server';
import { Student } from '../harness/student';
import { Witness } from '../harness/witness';
import { strings } from '../../src/strings';

const obstacle = Network.obstacle();
if (obstacle !== undefined)
  console.log(`tests of networks that are cut are left out: no network namespaces here: ${obstacle}`);

/** The page is to tell the truth within two seconds; a busy machine takes longer. */
const SOON_MS = 6_000;
/** Until a page plays again whose network is back: a browser tries less and less often. */
const BACK_MS = 30_000;

/** Nothing gets through; the interface is there, as with a router that has lost its way out. */
const CUT = `table inet cut {
  chain in { type filter hook input priority 0; iifname "eth0" drop
  }
  chain out { type filter hook output priority 0; oifname "eth0" drop
  }
}`;

const { scenes, states, reasons } = strings;

test.skipIf(obstacle)(
  'a student whose network is cut is told so, and plays again when it is back',
  async () => {
    const network = new Network();
    onTestFinished(() => network.dispose());
    const [host, here] = [network.host('server'), network.host('student')];
    network.cable(host, 'eth0', here, 'eth0');
    host.address('eth0', '10.78.0.1/24');
    here.address('eth0', '10.78.0.2/24');
    here.defaultRoute('eth0', '10.78.0.254');
    const server = await Server.start({ host, bind: '0.0.0.0' });
    onTestFinished(() => server.dispose());
    const target = `rtmp://127.0.0.1:${server.port('rtmp')}/live/${server.ready.key}`;
    const publisher = publish(LESSONS.baseline, target, host);
    onTestFinished(() => publisher.kill());
    const browser = await launch(here);
    onTestFinished(() => browser.close());
    const url = `http://10.78.0.1:${server.port('http')}/watch/${server.ready.class}`;
    const student = await Student.open(browser, server, url);
    await student.plays();
    const witness = await Witness.of(student.page);

    for (const seconds of [5, 20]) {
      const cut = Date.now();
      host.nft(CUT);
      const toldMs = await witness.tookToSee('trouble', cut);
      await student.page.waitForTimeout(Math.max(0, seconds * 1_000 - (Date.now() - cut)));
      const back = Date.now();
      host.nft('delete table inet cut');
      const playedMs = await witness.tookToSee('live', back, BACK_MS);
      await student.plays(BACK_MS);
      console.log(`cut for ${seconds} s: told after ${toldMs} ms, played again ${playedMs} ms after its end`);
      expect(toldMs).toBeLessThan(SOON_MS);
    }
    const known: string[] = [
      states.live,
      scenes.still,
      scenes.unreachable,
      states.reconnecting,
      states.connecting,
      reasons.server,
      reasons.network,
      // The browser notices after the page that nobody answers.
      reasons.silent,
    ];
    expect((await witness.said()).filter((text) => !known.includes(text))).toEqual([]);
    expect(student.loads).toBe(1);
  },
);
