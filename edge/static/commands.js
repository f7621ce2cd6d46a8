/** What a person can do to timers: sends the request and takes the reply into the store. */

import { formatDuration } from './time.js';

export class Commands {
  #request;
  #timers;
  #onChange;

  /** request(frame) → a promise of the reply. onChange(): the store has changed. */
  constructor(request, timers, onChange) {
    this.#request = request;
    this.#timers = timers;
    this.#onChange = onChange;
  }

  /** Makes a timer of `ms` milliseconds; `run` starts it, by the server's clock. */
  async create({ name, ms, run, userId }) {
    const timer = { id: crypto.randomUUID(), name, totalDuration: formatDuration(ms) };
    const { version } = await this.#request({ type: 'timer', action: 'update', timer });
    this.#timers.merge({ ...timer, userId, version });
    this.#onChange();
    if (run) await this.intent('start', timer.id);
  }

  /** action: start, pause, resume, or extend (with `by`, milliseconds). */
  async intent(action, timerId, by) {
    const frame = { type: 'timer', action, timerId };
    if (by !== undefined) frame.by = formatDuration(by);
    const reply = await this.#send(frame);
    // Whoever was removed while the request was under way must not get the timer back by its reply.
    if (this.#timers.get(timerId)) this.#timers.merge(reply.timer);
    this.#onChange();
  }

  async stop(timerId) {
    const { version } = await this.#send({ type: 'timer', action: 'stop', timerId });
    this.#timers.stop(timerId, version);
    this.#onChange();
  }

  async share(timerId, sharedWithUser) {
    const reply = await this.#send({ type: 'share', action: 'add', timerId, sharedWithUser });
    this.#timers.mergeShares(timerId, reply);
    this.#onChange();
  }

  async unshare(timerId, sharedWithUser) {
    const reply = await this.#send({ type: 'share', action: 'remove', timerId, sharedWithUser });
    this.#timers.mergeShares(timerId, reply);
    this.#onChange();
  }

  async leave(timerId, userId) {
    await this.#send({ type: 'share', action: 'remove', timerId, sharedWithUser: userId });
    this.#timers.forget(timerId);
    this.#onChange();
  }

  /** A timer that is gone on the server goes here too: its stop is still on the way. */
  async #send(frame) {
    try {
      return await this.#request(frame);
    } catch (error) {
      if (error.code === 404) this.#timers.forget(frame.timerId);
      this.#onChange();
      throw error;
    }
  }
}
