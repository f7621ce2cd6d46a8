/**
 * What a person can do to timers: makes the request of it, and takes the reply into the store.
 *
 * With a connection, buttons send intents, which add up with what others press at the same moment. Without one, a pause that
 * arrives minutes later as an intent would pause the timer where nobody saw it. So what is done offline is worked out here, at
 * the moment it is done, and sent as a state with the version it was done to: the server refuses it (409) when somebody has
 * changed the timer meanwhile. Only extensions stay intents: a minute more is a minute more at any time.
 */

import { runState, withIntent } from './intents.js';
import { titleOf } from './news.js';
import { withRunState } from './projection.js';
import { isolated } from './text.js';
import { formatDuration, formatInstant, formatSpan } from './time.js';

export class Commands {
  #outbox;
  #timers;
  #clock;
  #isOnline;
  #onError;

  /** isOnline(): whether there is a connection. onError(what, error): something was refused. */
  constructor(outbox, timers, clock, { isOnline, onError }) {
    this.#outbox = outbox;
    this.#timers = timers;
    this.#clock = clock;
    this.#isOnline = isOnline;
    this.#onError = onError;
    outbox.onReply = (entry, reply) => this.#replied(entry, reply);
    outbox.onError = (entry, error) => this.#refused(entry, error);
  }

  /** Makes a timer of `ms` milliseconds, which runs from now on if it is to. */
  create({ name, ms, run, userId }) {
    const timer = { id: crypto.randomUUID(), name, totalDuration: formatDuration(ms) };
    if (run) timer.endTime = formatInstant(this.#clock.now() + ms);
    this.#create(timer, userId);
  }

  /** timer: as it is shown. action: start, pause, resume, or extend (with `by`, milliseconds). */
  intent(timer, action, by) {
    const at = this.#clock.now();
    const what = action === 'extend' ? `add ${formatSpan(by)} to ${titleOf(timer)}` : `${action} ${titleOf(timer)}`;
    const frame = { type: 'timer', action, timerId: timer.id };
    if (by !== undefined) frame.by = formatDuration(by);
    const command = { what, timerId: timer.id, frame, effect: { intent: { action, by, at } } };
    if (this.#isOnline() || !this.#foldOffline(timer, command)) this.#outbox.add(command);
  }

  stop(timer) {
    const frame = { type: 'timer', action: 'stop', timerId: timer.id };
    const command = { what: `stop ${titleOf(timer)}`, timerId: timer.id, frame, effect: { gone: true } };
    const waiting = this.#outbox.of(timer.id);
    if (this.#outbox.takeBack(waiting)) {
      if (waiting.some((entry) => entry.effect.create)) return; // nobody has ever heard of it
      if (!this.#isOnline()) frame.baseVersion = this.#timers.get(timer.id)?.version;
    }
    this.#outbox.add(command);
  }

  share(timer, user) {
    this.#changeMembers(timer, 'add', user, `share ${titleOf(timer)} with ${isolated(user)}`, { add: user });
  }

  unshare(timer, user) {
    this.#changeMembers(timer, 'remove', user, `remove ${isolated(user)} from ${titleOf(timer)}`, { remove: user });
  }

  leave(timer, user) {
    this.#changeMembers(timer, 'remove', user, `leave ${titleOf(timer)}`, { gone: true });
  }

  #create(timer, userId) {
    const frame = { type: 'timer', action: 'update', timer };
    const create = { ...timer, userId, version: 0, sharedWith: [], shareVersion: 0 };
    this.#outbox.add({ what: `create ${titleOf(timer)}`, timerId: timer.id, frame, effect: { create } });
  }

  #changeMembers(timer, action, sharedWithUser, what, effect) {
    this.#outbox.add({
      what, timerId: timer.id, frame: { type: 'share', action, timerId: timer.id, sharedWithUser }, effect,
    });
  }

  /** Offline: puts the outcome in place of what waits already. Returns whether that was possible. */
  #foldOffline(timer, { what, effect }) {
    const known = this.#timers.get(timer.id);
    const { intent } = effect;
    const waiting = this.#outbox.of(timer.id);
    const shares = waiting.filter((entry) => entry.frame.type === 'share');
    const creation = waiting.find((entry) => entry.effect.create);
    const onlyExtends = waiting.every((entry) => shares.includes(entry) || entry.effect.intent?.action === 'extend');
    if (intent.action === 'extend' && known && onlyExtends) return false;
    // What is under way may have happened or not, so nobody knows to which version this would be done.
    if (!(known || creation) || !this.#outbox.takeBack(waiting)) return false;
    const set = runState(withIntent(timer, intent));
    if (creation) this.#create(withRunState(creation.frame.timer, set), creation.effect.create.userId);
    else this.#update(timer.id, set, known.version, what);
    for (const share of shares) this.#outbox.add(share);
    return true;
  }

  #update(timerId, set, baseVersion, what) {
    const frame = { type: 'timer', action: 'update', timer: { id: timerId, ...set }, baseVersion };
    this.#outbox.add({ what, timerId, frame, effect: { set } });
  }

  #replied({ timerId, frame, effect }, reply) {
    const known = this.#timers.get(timerId);
    if (effect.create) this.#timers.merge({ ...frame.timer, userId: effect.create.userId, version: reply.version });
    else if (frame.action === 'stop') this.#timers.stop(timerId, reply.version);
    else if (effect.gone) this.#timers.forget(timerId);
    // Whoever was removed while the request was under way must not get the timer back by its reply.
    else if (!known) return;
    else if (frame.type === 'share') this.#timers.mergeShares(timerId, reply);
    else if (reply.timer) this.#timers.merge(reply.timer);
    else this.#timers.merge({ ...withRunState(known, effect.set), version: reply.version });
  }

  #refused({ what, timerId }, error) {
    const current = error.reply.timer;
    // A timer that is gone on the server goes here too: its stop is still on the way.
    if (error.code === 404) this.#timers.forget(timerId);
    else if (current?.stoppedBy) this.#timers.stop(timerId, current.version);
    else if (current && this.#timers.get(timerId)) this.#timers.merge(current);
    this.#onError(what, error);
  }
}
