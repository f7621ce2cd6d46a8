/**
 * The server's clock, as seen from here, by NTP's four timestamps (RFC 5905, section 8).
 *
 * A round trip bounds the error of a sample by half of what it took on the wire, so of the last few samples the one with the
 * least error counts (the clock filter of section 10). Two screens that both do so differ by the sum of their errors at most.
 */

const SAMPLES_KEPT = 8;
/** Milliseconds by which clocks drift apart in a millisecond, at most; so that an old sample gives way to a newer one. */
const DRIFT = 100e-6;
/** Times in messages are cut to milliseconds. */
const RESOLUTION_MS = 1;

/** Milliseconds since 1970 by this machine; they never jump when somebody sets its clock. */
export function localNow() {
  return performance.timeOrigin + performance.now();
}

export class ServerClock {
  /** {offset, error, at}: the server's time minus ours, by how much that may be wrong, and when it was taken. */
  #samples = [];
  #localNow;

  constructor(now = localNow) {
    this.#localNow = now;
  }

  /** Forgets the past. */
  reset() {
    this.#samples = [];
  }

  /**
   * One exchange: sentAt and receivedAt by the local clock; in between, the server got it at `receivedTime` and answered at
   * `serverTime`, by its own. A server that does not tell when it got it answered at once.
   */
  sample({ sentAt, receivedTime, serverTime, receivedAt }) {
    const arrivedTime = receivedTime ?? serverTime;
    const offset = (arrivedTime - sentAt + serverTime - receivedAt) / 2;
    const onTheWire = Math.max(0, receivedAt - sentAt - (serverTime - arrivedTime));
    const fresh = { offset, error: onTheWire / 2 + RESOLUTION_MS, at: receivedAt };
    const best = this.#best();
    // Both can't be right when they contradict each other: the machine has slept, or a clock was set. The newer one is.
    const contradicts = best && Math.abs(best.offset - offset) > this.#errorOf(best) + fresh.error;
    this.#samples = [...(contradicts ? [] : this.#samples), fresh].slice(-SAMPLES_KEPT);
  }

  get offset() {
    return this.#best()?.offset ?? 0;
  }

  /** By how many milliseconds `now()` may be wrong; Infinity when nothing is known yet. */
  get error() {
    const best = this.#best();
    return best ? this.#errorOf(best) : Infinity;
  }

  /** When the last sample was taken, by the local clock. */
  get sampledAt() {
    return this.#samples.at(-1)?.at ?? -Infinity;
  }

  local() {
    return this.#localNow();
  }

  now() {
    return this.#localNow() + this.offset;
  }

  #best() {
    return this.#samples.reduce((best, next) => (best && this.#errorOf(best) < this.#errorOf(next) ? best : next), null);
  }

  #errorOf(sample) {
    return sample.error + DRIFT * Math.max(0, this.#localNow() - sample.at);
  }
}
