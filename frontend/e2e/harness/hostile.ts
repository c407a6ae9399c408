import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A stranger at the RTMP port: what it sends at once, or after a handshake as it should be. */
export interface Attack {
  name: string;
  connections: number;
  /** Whether the bytes follow a completed handshake (RTMP 1.0, section 5.2). */
  shakesHands: boolean;
  bytes: Uint8Array;
}

const VERSION = 3;
const HANDSHAKE_BYTES = 1_536;
/** Chunk payload before anybody sets another size (RTMP 1.0, section 5.4.1). */
const CHUNK_BYTES = 128;
const LENGTH_MAX = 0xff_ff_ff;

/** Message types of RTMP 1.0, sections 5.4 and 7.1. */
const SET_CHUNK_SIZE = 1;
const ABORT = 2;
const USER_CONTROL = 4;
const DATA = 18;
const COMMAND = 20;

/** AMF0 markers. */
const NUMBER = [0x00, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
const OPEN_OBJECT = [0x03, 0x00, 0x01, 0x61];
const OPEN_ARRAY = [0x0a, 0x00, 0x00, 0x00, 0x01];
const DEPTH = 100_000;

export const ATTACKS: readonly Attack[] = [
  raw('an HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: lectern\r\n\r\n')),
  raw('RTMPE', Buffer.alloc(1 + HANDSHAKE_BYTES, 6)),
  shaken('a handshake and then silence', Buffer.alloc(0), 20),
  shaken('nested objects', message(COMMAND, command('connect', repeat(OPEN_OBJECT, DEPTH)))),
  shaken('nested arrays', message(COMMAND, command('connect', repeat(OPEN_ARRAY, DEPTH)))),
  shaken('a name that is no UTF-8', message(COMMAND, Buffer.from([0x02, 0x00, 0x03, 0xff, 0xfe, 0xfd]))),
  shaken('@setDataFrame alone', message(DATA, text('@setDataFrame'))),
  shaken('a command of one value', message(COMMAND, text('publish'))),
  shaken('a chunk size of one byte', message(SET_CHUNK_SIZE, Buffer.from([1]))),
  shaken('a chunk size of zero', message(SET_CHUNK_SIZE, uint32(0))),
  shaken('the largest chunk size', message(SET_CHUNK_SIZE, uint32(2 ** 31 - 1))),
  shaken('a negative chunk size', message(SET_CHUNK_SIZE, uint32(2 ** 31))),
  shaken('a user control of one byte', message(USER_CONTROL, Buffer.from([0]))),
  shaken('16 MB before authentication', message(COMMAND, Buffer.alloc(LENGTH_MAX, 0x02)), 20),
  shaken('every chunk stream', Buffer.concat(Array.from({ length: 65_536 }, (_, i) => partial(64 + i)))),
  shaken('an abort within a message', Buffer.concat([partial(64), message(ABORT, uint32(64)), partial(64)])),
  shaken('an extended timestamp that needs no extension', extended(5)),
  shaken(
    'a flood of connect',
    repeat([...message(COMMAND, command('connect', Buffer.from([0x05])))], 10_000),
  ),
  shaken('a flood of createStream', repeat([...message(COMMAND, command('createStream'))], 10_000)),
  shaken('publish without a stream', message(COMMAND, command('publish', text('lesson')), 77)),
  // Last: these take every place that the server has for strangers.
  raw('half a handshake', Buffer.from([VERSION]), 500),
];

/** What became of an attack. */
export interface Outcome {
  /** Still open, unless the server has closed them. */
  sockets: Socket[];
  /** Connections that the server let in and that could begin to send. */
  admitted: number;
}

/** Makes the attack. Resolves when each connection has sent everything or was thrown out. */
export async function attack(address: string, { connections, shakesHands, bytes }: Attack): Promise<Outcome> {
  const [host, port] = address.split(':');
  let admitted = 0;
  const opened = Array.from({ length: connections }, async () => {
    const socket = connect(Number(port), host);
    // Being thrown out is what a stranger has to expect.
    const thrownOut = new Promise<void>((resolve) => {
      socket.on('error', () => resolve());
      socket.on('close', () => resolve());
    });
    const sent = (async () => {
      await (shakesHands ? shake(socket) : once(socket, 'connect'));
      admitted += 1;
      await new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
    })();
    socket.resume();
    await Promise.race([sent, thrownOut]);
    return socket;
  });
  return { sockets: await Promise.all(opened), admitted };
}

/** C0, C1 and C2, the last of them when S2 is complete. */
async function shake(socket: Socket): Promise<void> {
  const expected = 1 + 2 * HANDSHAKE_BYTES;
  const hello = Buffer.alloc(1 + HANDSHAKE_BYTES);
  hello[0] = VERSION;
  let received = 0;
  const answered = new Promise<void>((resolve) => {
    socket.on('data', (data) => {
      received += data.length;
      if (received >= expected) resolve();
    });
  });
  socket.write(hello);
  await answered;
  socket.write(Buffer.alloc(HANDSHAKE_BYTES));
}

function raw(name: string, bytes: Uint8Array, connections = 1): Attack {
  return { name, connections, shakesHands: false, bytes };
}

function shaken(name: string, bytes: Uint8Array, connections = 1): Attack {
  return { name, connections, shakesHands: true, bytes };
}

/** A whole message on chunk stream 3, cut into chunks (RTMP 1.0, section 5.3.1). */
function message(type: number, payload: Uint8Array, stream = 0): Buffer {
  const length = Buffer.from([payload.length >> 16, (payload.length >> 8) & 0xff, payload.length & 0xff]);
  const header = [Buffer.from([0x03, 0, 0, 0]), length, Buffer.from([type, stream, 0, 0, 0])];
  const chunks = [];
  for (let at = 0; at < payload.length; at += CHUNK_BYTES) {
    if (at > 0) chunks.push(Buffer.from([0xc3]));
    chunks.push(payload.subarray(at, at + CHUNK_BYTES));
  }
  return Buffer.concat([...header, ...chunks]);
}

/** The first chunk of a message of 256 bytes that is never finished, on a chunk stream of the three-byte form. */
function partial(chunkStream: number): Buffer {
  const number = chunkStream - 64;
  const head = [0x01, number & 0xff, (number >> 8) & 0xff, 0, 0, 0, 0, 1, 0, COMMAND, 0, 0, 0, 0];
  return Buffer.concat([Buffer.from(head), Buffer.alloc(CHUNK_BYTES)]);
}

/** A message that announces an extended timestamp and gives one that would have fitted (section 5.3.1.3). */
function extended(timestamp: number): Buffer {
  const head = Buffer.from([0x03, 0xff, 0xff, 0xff, 0, 0, 4, USER_CONTROL, 0, 0, 0, 0]);
  return Buffer.concat([head, uint32(timestamp), Buffer.alloc(4)]);
}

/** A command with its name, transaction id and arguments (section 7.2). */
function command(name: string, rest: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([text(name), Buffer.from(NUMBER), rest]);
}

function text(value: string): Buffer {
  return Buffer.concat([Buffer.from([0x02, 0, value.length]), Buffer.from(value)]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function repeat(bytes: readonly number[], times: number): Buffer {
  return Buffer.alloc(bytes.length * times, Buffer.from(bytes));
}
