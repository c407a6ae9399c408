/**
 * Streams of events to one host that a browser may have open at once, all of its tabs together. Browsers keep six connections
 * to a host, and a stream takes one for as long as it lasts: a seventh tab could not join.
 */
const SLOTS = 3;
/** How long others have to say that they have one. */
const ANSWER_MS = 150;

interface Message {
  asks?: string;
  /** Of several that ask at once those with the smaller number come first. */
  number?: number;
  holds?: string;
}

/** Takes one of a host's slots, unless all are taken; whoever calls what this returns gives it back. */
export async function takeSlot(host: string): Promise<(() => void) | undefined> {
  if (typeof BroadcastChannel === 'undefined') return undefined;
  const channel = new BroadcastChannel('lectern.events');
  const number = Math.random();
  let taken = 0;
  channel.onmessage = ({ data }: MessageEvent<Message>) => {
    if (data.holds === host) taken += 1;
    if (data.asks === host && (data.number ?? 0) > number)
      channel.postMessage({ holds: host } satisfies Message);
  };
  channel.postMessage({ asks: host, number } satisfies Message);
  await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
  if (taken >= SLOTS) {
    channel.close();
    return undefined;
  }
  channel.onmessage = ({ data }: MessageEvent<Message>) => {
    if (data.asks === host) channel.postMessage({ holds: host } satisfies Message);
  };
  return () => channel.close();
}
