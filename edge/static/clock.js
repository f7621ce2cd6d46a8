/**
 * The server's clock, as seen from here.
 *
 * A round trip bounds the error of a sample by half its length, so of the last few samples the one with the shortest
 * round trip counts (the clock filter of NTP, RFC 5905 section 10).
 */

const SAMPLES_KEPT = 8;

export class ServerClock {
  #samples = [];
  #localNow;

  /** localNow: milliseconds since 1970 by this machine. */
  constructor(localNow = Date.now) {
    this.#localNow = localNow;
  }

  /** Forgets the past: after a reconnect the local clock may have been set, or the machine has slept. */
  reset() {
    this.#samples = [];
  }

  /** sentAt, receivedAt: by the local clock. serverTime: what the server said in between. */
  sample(sentAt, receivedAt, serverTime) {
    const offset = serverTime - (sentAt + receivedAt) / 2;
    this.#samples = [...this.#samples, { roundTrip: receivedAt - sentAt, offset }].slice(-SAMPLES_KEPT);
  }

  get offset() {
    if (!this.#samples.length) return 0;
    return this.#samples.reduce((best, next) => (next.roundTrip <= best.roundTrip ? next : best)).offset;
  }

  now() {
    return this.#localNow() + this.offset;
  }
}
