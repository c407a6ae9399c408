import { test as base } from '../harness/lesson';
import { Server } from '../harness/server';

/**
 * The tests' fixtures with a server on all addresses, as classes have it.
 *
 * Other tests' servers have the loopback address alone, which Firefox pairs with none of its own, and libnice (GStreamer)
 * reaches by TCP only, after two seconds of UDP.
 */
export const test = base.extend<{ server: Server }>({
  server: async ({}, use) => {
    // It is for moments, and the lesson is a test picture: on a machine with a public address too.
    const config = '[coordinator]\nallow_public_open = true\n';
    const server = await Server.start({ bind: '::', config });
    await use(server);
    await server.dispose();
  },
});
