import type { Reason } from './reason';
import type { Stats } from './stats';

/** Where the player is, for people. */
export type State = 'starting' | 'waiting' | 'connecting' | 'live' | 'reconnecting' | 'denied';

/** Where to watch, and with what. */
export interface Access {
  url: string;
  token: string;
}

/** What is wrong with the access that was given before, if anything is. */
export interface Complaint {
  /** WHEP has refused the token, or it leads to nothing for long: the lesson may be elsewhere. */
  isTokenRefused: boolean;
  /** The node could not be reached, or takes nobody: there may be another. */
  isNodeLost: boolean;
}

/** Asking for access was refused for good, or until somebody does something. */
export class AccessDenied extends Error {
  constructor(readonly reason: Reason) {
    super(reason);
  }
}

/** What the player tells its page. */
export interface Listener {
  onState(state: State, reason: Reason | undefined): void;
  onStream(stream: MediaStream, takesPicture: boolean): void;
  onStats(stats: Stats): void;
  /** The session goes on at another endpoint. */
  onMoved(url: string): void;
  /** Nothing new has come for a moment, though something should; or it does again. */
  onStill(still: Still): void;
}

/** Whether what plays stands still, and what is known of it: the server answers and has nothing, or it does not answer. */
export type Still = 'no' | 'silent' | 'unreachable';

/** What the server says of the lesson. */
export interface Expected {
  isLive: boolean;
  /** The teacher's app is there and sends nothing: a new session would bring nothing either. */
  isSilent: boolean;
}
