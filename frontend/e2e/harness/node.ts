import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child } from './child';
import { binary, ready, type Server } from './server';

/** Where a node is. */
interface NodeReady {
  rtmp_url: string;
  whep: string;
  admin: string;
}

/** A further machine of a server's cluster: `lectern node join`. */
export class ClusterNode {
  private constructor(
    readonly name: string,
    readonly process: Child,
    readonly ready: NodeReady,
    readonly home: string,
  ) {}

  static async join(server: Server, name: string): Promise<ClusterNode> {
    const home = mkdtempSync(join(tmpdir(), 'lectern-e2e-node-'));
    const secret = readFileSync(join(server.dataDirectory, 'node-secret'), 'utf8').trim();
    const file = join(home, 'ready.json');
    const ports = ['http', 'rtmp', 'rtmps', 'whep', 'media', 'admin', 'link'];
    const all = [
      ...['node', 'join', `http://${server.ready.http}`, '--secret', secret, '--name', name],
      ...['--data-dir', join(home, 'data'), '--bind', '127.0.0.1', '--ready-file', file],
      ...ports.flatMap((port) => [`--${port}-port`, '0']),
    ];
    let started: Child | undefined;
    const where = await ready<NodeReady>(file, () => (started = new Child(binary(), all)));
    if (started === undefined) throw new Error('the node was never started');
    return new ClusterNode(name, started, where, home);
  }

  /** Where the teacher's app publishes to this node. */
  publishUrl(server: Server): string {
    return `${this.ready.rtmp_url}/${server.ready.class}?k=${server.ready.key}`;
  }

  /** What an operator does before he stops the machine. */
  async drain(): Promise<void> {
    const answer = await fetch(`http://${this.ready.admin}/drain`, { method: 'POST' });
    if (!answer.ok) throw new Error(`POST /drain: ${answer.status} ${await answer.text()}`);
  }

  async dispose(): Promise<void> {
    await this.process.kill();
    rmSync(this.home, { recursive: true, force: true });
  }
}
