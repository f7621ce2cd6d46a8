/**
 * The timers this window knows. Pure: no DOM, no socket.
 *
 * Deliveries are of states and may come twice or out of order; `version` orders a timer's state and `shareVersion` its
 * audience, each on its own (docs/protocol.md, "A timer").
 */

const SHARE_FIELDS = ['sharedWith', 'shareVersion'];
/** Overtaking takes seconds; the oldest tombstones go first. */
const TOMBSTONES_KEPT = 1000;

export class Timers {
  /** id → timer, in the order in which they became known. */
  #timers = new Map();
  /** id → version of its stop, so that an update that was overtaken by the stop can't bring the timer back. */
  #tombstones = new Map();

  get(id) {
    return this.#timers.get(id);
  }

  /** Most recently added first. */
  all() {
    return [...this.#timers.values()].reverse();
  }

  /**
   * Takes what is newer of a timer as the server sent it.
   *
   * Returns {before, after}: what was known (undefined for a new timer) and what is known now (undefined when it is
   * stopped and the state is older than its stop).
   */
  merge(incoming) {
    const before = this.#timers.get(incoming.id);
    const stoppedAt = this.#tombstones.get(incoming.id) ?? -1;
    if (!before && incoming.version <= stoppedAt) return { before, after: undefined };
    const after = before ? newer(before, incoming) : { sharedWith: [], shareVersion: 0, ...incoming };
    this.#timers.set(after.id, after);
    this.#tombstones.delete(after.id);
    return { before, after };
  }

  /** Takes an audience that came without a state, as in the reply to `share`. */
  mergeShares(id, { sharedWith, shareVersion }) {
    const before = this.#timers.get(id);
    if (before && shareVersion >= before.shareVersion) this.#timers.set(id, { ...before, sharedWith, shareVersion });
  }

  /** The timer was stopped. Returns it, or undefined when it is not known or was created anew since. */
  stop(id, version) {
    const timer = this.#timers.get(id);
    if (timer && timer.version > version) return undefined;
    this.#timers.delete(id);
    this.#tombstones.set(id, Math.max(version, this.#tombstones.get(id) ?? -1));
    if (this.#tombstones.size > TOMBSTONES_KEPT) this.#tombstones.delete(this.#tombstones.keys().next().value);
    return timer;
  }

  /**
   * The timer is not ours to see any more. Returns it, or undefined.
   *
   * No tombstone: when it is shared with us again, it comes back in the version it had.
   */
  forget(id) {
    const timer = this.#timers.get(id);
    this.#timers.delete(id);
    return timer;
  }

  /** A snapshot of everything, or the answer to `sync`. */
  mergeSnapshot({ timers, gone = [] }) {
    // A snapshot has no order of its own: what changed last is what its reader wants to see first.
    for (const timer of [...timers].sort((a, b) => a.version - b.version)) this.merge(timer);
    for (const id of gone) this.forget(id);
  }

  /** What `sync` asks with. */
  versions() {
    const timers = [...this.#timers.values()];
    return {
      versions: Object.fromEntries(timers.map((timer) => [timer.id, timer.version])),
      shareVersions: Object.fromEntries(timers.map((timer) => [timer.id, timer.shareVersion])),
    };
  }
}

function newer(before, incoming) {
  const state = incoming.version >= before.version ? incoming : before;
  const shares = (incoming.shareVersion ?? -1) >= before.shareVersion ? incoming : before;
  const after = { ...state };
  for (const field of SHARE_FIELDS) after[field] = shares[field];
  return after;
}
