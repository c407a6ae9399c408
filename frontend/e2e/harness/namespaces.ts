import { execFileSync } from 'node:child_process';

/** Prefix of our namespaces, so that what a killed run leaves behind is recognised: `ip netns list`. */
const PREFIX = `lectern-${process.pid}`;

let made = 0;

/** A command and its arguments, as a process is started with. */
export type CommandLine = [command: string, args: string[]];

/** One machine of a test's network: a network namespace with a loopback interface (ip-netns(8)). */
export class Host {
  readonly #namespace: string;

  constructor(readonly name: string) {
    made += 1;
    this.#namespace = `${PREFIX}-${made}-${name}`;
    run('ip', 'netns', 'add', this.#namespace);
    this.ip('link', 'set', 'lo', 'up');
  }

  /** The command line that runs a program on this host. */
  within(command: string, args: readonly string[]): CommandLine {
    return ['ip', ['netns', 'exec', this.#namespace, command, ...args]];
  }

  /** Runs `ip` on this host. */
  ip(...args: string[]): void {
    run('ip', '-n', this.#namespace, ...args);
  }

  /** Runs any other program on this host to its end. */
  run(command: string, ...args: string[]): void {
    const [program, all] = this.within(command, args);
    run(program, ...all);
  }

  /** Gives an interface an address in CIDR notation, usable at once. */
  address(device: string, cidr: string): void {
    // Duplicate address detection would keep an IPv6 address unusable for a second.
    this.ip('address', 'add', cidr, 'dev', device, ...(cidr.includes(':') ? ['nodad'] : []));
  }

  /** Replaces all addresses of an interface, as a new lease of DHCP does. */
  readdress(device: string, cidr: string): void {
    this.ip('address', 'flush', 'dev', device, 'scope', 'global');
    this.address(device, cidr);
  }

  /** Sends what no other route takes to `gateway`, whether anybody answers there or not. */
  defaultRoute(device: string, gateway: string): void {
    this.ip('route', 'add', 'default', 'via', gateway, 'dev', device);
  }

  /** Lets packets pass from one interface to another. */
  forward(): void {
    this.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
  }

  /** Loads a ruleset of nft(8). */
  nft(ruleset: string): void {
    const [program, all] = this.within('nft', ['-f', '-']);
    execFileSync(program, all, { input: ruleset, stdio: ['pipe', 'ignore', 'pipe'] });
  }

  /** Limits what leaves an interface, with a queue of `queueMs` in front (tc-tbf(8)); called again, it changes the limit. */
  bottleneck(device: string, kbitPerSecond: number, queueMs: number): void {
    // The bucket must hold what goes out between two ticks of the timer; ten full packets do at any rate of a test.
    const limit = ['rate', `${kbitPerSecond}kbit`, 'burst', '15000', 'latency', `${queueMs}ms`];
    this.run('tc', 'qdisc', 'replace', 'dev', device, 'root', 'tbf', ...limit);
  }

  remove(): void {
    run('ip', 'netns', 'delete', this.#namespace);
  }

  /** The name by which `ip` knows this host. */
  get namespace(): string {
    return this.#namespace;
  }
}

/** Hosts and the cables between them, on this machine and invisible to the rest of it. */
export class Network {
  readonly #hosts: Host[] = [];

  /** Why there can be no network here, or `undefined` when there can: it takes root and a kernel that lets it. */
  static obstacle(): string | undefined {
    try {
      new Host('try').remove();
      return undefined;
    } catch (error) {
      return error instanceof Error ? (error.message.split('\n').at(1) ?? error.message) : String(error);
    }
  }

  host(name: string): Host {
    const host = new Host(name);
    this.#hosts.push(host);
    return host;
  }

  /** A cable between two hosts (veth(4)): each end is an interface of the given name. */
  cable(one: Host, oneDevice: string, other: Host, otherDevice: string): void {
    const peer = ['peer', 'name', otherDevice, 'netns', other.namespace];
    one.ip('link', 'add', oneDevice, 'type', 'veth', ...peer);
    for (const [host, device] of [
      [one, oneDevice],
      [other, otherDevice],
    ] as const)
      host.ip('link', 'set', device, 'up');
  }

  dispose(): void {
    // The cables go with the namespaces at their ends.
    for (const host of this.#hosts.splice(0)) host.remove();
  }
}

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
