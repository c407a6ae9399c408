import { onTestFinished, test } from 'vitest';
import { launch } from '../harness/browser';
import { type Host, Network } from '../harness/namespaces';
import { LESSONS, publish } from '../harness/publisher';
import { type Place, Server } from '../harness/server';
import { Student } from '../harness/student';

// Machines as schools have them, each a network namespace: what the server must find out about its addresses.

const obstacle = Network.obstacle();
if (obstacle !== undefined)
  console.log(`tests of hosts are left out: no network namespaces here: ${obstacle}`);

const withAllAddresses = test.skipIf(obstacle);

/** A server with a lesson, whose publisher is on the same host. `own` is how that host names itself. */
async function lesson(place: Place & { host: Host }, own = '127.0.0.1'): Promise<Server> {
  const server = await Server.start(place);
  onTestFinished(() => server.dispose());
  const target = `rtmp://${own}:${server.port('rtmp')}/live/${server.ready.key}`;
  const publisher = publish(LESSONS.baseline, target, place.host);
  onTestFinished(() => publisher.kill());
  return server;
}

/** A student on `host` opens the page at an address of the server, and sees the lesson move. */
async function plays(host: Host, server: Server, address: string): Promise<void> {
  const browser = await launch(host);
  onTestFinished(() => browser.close());
  const { class: name } = server.ready;
  const url = `http://${address}:${server.port('http')}/watch/${name}`;
  const student = await Student.open(browser, server, url);
  await student.plays();
}

function network(): Network {
  const network = new Network();
  onTestFinished(() => network.dispose());
  return network;
}

/** Two hosts and a cable, `eth0` at both ends. The student has a default route, as hosts have; nobody answers there. */
function pair(addresses: { server: string; student: string; gateway: string }): {
  server: Host;
  student: Host;
} {
  const net = network();
  const [server, student] = [net.host('server'), net.host('student')];
  net.cable(server, 'eth0', student, 'eth0');
  server.address('eth0', addresses.server);
  student.address('eth0', addresses.student);
  student.defaultRoute('eth0', addresses.gateway);
  return { server, student };
}

const LAN = { server: '10.77.0.1/24', student: '10.77.0.2/24', gateway: '10.77.0.254' };

withAllAddresses('a server without a default route is watched from its own network', async () => {
  const { server: host, student } = pair(LAN);
  const server = await lesson({ host, bind: '::' });
  await plays(student, server, '10.77.0.1');
});

withAllAddresses('a server with two networks is watched from the one without the default route', async () => {
  const net = network();
  const [host, student, other] = [net.host('server'), net.host('student'), net.host('other')];
  net.cable(host, 'eth0', other, 'eth0');
  net.cable(host, 'eth1', student, 'eth0');
  host.address('eth0', '10.77.1.1/24');
  host.defaultRoute('eth0', '10.77.1.254');
  host.address('eth1', '10.77.2.1/24');
  student.address('eth0', '10.77.2.2/24');
  student.defaultRoute('eth0', '10.77.2.254');
  const server = await lesson({ host, bind: '::' });
  await plays(student, server, '10.77.2.1');
});

withAllAddresses('a server whose address changed is watched at the new one', async () => {
  const { server: host, student } = pair(LAN);
  host.defaultRoute('eth0', LAN.gateway);
  const server = await lesson({ host, bind: '::' });
  await plays(student, server, '10.77.0.1');
  host.readdress('eth0', '10.77.0.9/24');
  host.defaultRoute('eth0', LAN.gateway);
  await plays(student, server, '10.77.0.9');
});

withAllAddresses('a server with nothing but IPv6 is watched', async () => {
  const { server: host, student } = pair({
    server: 'fd77::1/64',
    student: 'fd77::2/64',
    gateway: 'fd77::fe',
  });
  const server = await lesson({ host, bind: '::' }, '[::1]');
  await plays(student, server, '[fd77::1]');
});

withAllAddresses('a server behind one-to-one NAT is watched at the address that it announces', async () => {
  const net = network();
  const [host, nat, student] = [net.host('server'), net.host('nat'), net.host('student')];
  net.cable(host, 'eth0', nat, 'inside');
  net.cable(nat, 'outside', student, 'eth0');
  host.address('eth0', '10.88.0.2/24');
  host.defaultRoute('eth0', '10.88.0.1');
  nat.address('inside', '10.88.0.1/24');
  nat.address('outside', '10.99.0.1/24');
  nat.forward();
  nat.nft(`table ip nat {
    chain in { type nat hook prerouting priority dstnat; iifname "outside" ip daddr 10.99.0.1 dnat to 10.88.0.2; }
    chain out { type nat hook postrouting priority srcnat; ip saddr 10.88.0.2 oifname "outside" snat to 10.99.0.1; }
  }`);
  student.address('eth0', '10.99.0.2/24');
  student.defaultRoute('eth0', '10.99.0.254');
  const server = await lesson({ host, bind: '0.0.0.0', config: '[whep]\nannounce = ["10.99.0.1"]\n' });
  await plays(student, server, '10.99.0.1');
});
