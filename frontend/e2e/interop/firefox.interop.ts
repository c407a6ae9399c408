import { existsSync } from 'node:fs';
import { expect } from 'vitest';
import { strings } from '../../src/strings';
import { LESSONS } from '../harness/publisher';
import { until } from '../harness/until';
import { FIREFOX, inFirefox } from './firefox';
import { test } from './lesson';
import { notTried } from './report';
import { Screen } from './screen';
import { judge } from './seen';

test("Firefox hears the lesson with Lectern's page, which says why there is no picture", async ({
  server,
  teach,
  skip,
}) => {
  const name = "Firefox ESR, Lectern's page";
  if (!existsSync(FIREFOX)) {
    notTried('player', name, `There is no ${FIREFOX}.`);
    return skip();
  }
  teach(LESSONS.baseline);
  await server.untilLive();
  const note =
    'As Debian installs it, it offers no H.264, which comes with the plug-in OpenH264. The page says that another browser shows the picture.';
  await judge({ name, result: 'sound', note }, () =>
    inFirefox(async (pane, version) => {
      const screen = await Screen.open(pane, server.ready.watch_url);
      const seen = await screen.watch('sound');
      expect(seen.pictures).toBe(0);
      await until('the page to say why', async () => {
        const said = await pane.evaluate(() => document.body.innerText);
        return said.includes(strings.pictureless.noH264) ? true : undefined;
      });
      return { version, ...seen };
    }),
  );
});
