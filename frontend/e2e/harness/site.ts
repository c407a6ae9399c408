import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { build } from 'vite';

/** A bare page with one script, on a port of its own. */
export class Site {
  /** Bundles `entry` into one classic script; `body` is what the page has besides. */
  static async of(entry: string, body = ''): Promise<Site> {
    const code = await script(entry);
    const html = `<!doctype html><title>player</title><body>${body}<script src="/script.js"></script>`;
    const server = createServer((request, response) => {
      const wantsCode = request.url === '/script.js';
      response.setHeader('content-type', wantsCode ? 'text/javascript' : 'text/html');
      response.end(wantsCode ? code : html);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new Site(server);
  }

  private constructor(private readonly server: Server) {}

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
  }

  async dispose(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

async function script(entry: string): Promise<string> {
  const output = await build({
    configFile: false,
    logLevel: 'error',
    build: { write: false, minify: false, lib: { entry, formats: ['iife'], name: 'player_module' } },
  });
  const chunk = [output].flat().flatMap((bundle) => ('output' in bundle ? bundle.output : []))[0];
  if (chunk?.type !== 'chunk') throw new Error('vite built no script');
  return chunk.code;
}
