/** What the screen shows: the timers as the server told them, and on top of them what was done here and is not answered yet. */

import { withIntent } from './intents.js';

/**
 * timers: as the server told them. entries: of the outbox, oldest first.
 *
 * Returns the timers, new ones first, each with `waiting`: what is on its way to the server, in words.
 */
export function project(timers, entries) {
  const shown = new Map(timers.map((timer) => [timer.id, timer]));
  const created = [];
  for (const { timerId, effect } of entries) {
    if (effect.create && !shown.has(timerId)) created.unshift(timerId);
    const before = shown.get(timerId);
    if (!before && !effect.create) continue;
    const after = apply(before, effect);
    if (after) shown.set(timerId, after);
    else shown.delete(timerId);
  }
  const order = [...created, ...timers.map((timer) => timer.id)];
  return order.filter((id) => shown.has(id)).map((id) => {
    const waiting = entries.filter((entry) => entry.timerId === id).map((entry) => entry.what);
    return { ...shown.get(id), waiting };
  });
}

/** A timer after an effect; undefined when it is gone. */
function apply(timer, effect) {
  if (effect.create) return timer ?? effect.create;
  if (effect.gone) return undefined;
  if (effect.intent) return withIntent(timer, effect.intent);
  if (effect.add) return { ...timer, sharedWith: [...new Set([...timer.sharedWith, effect.add])] };
  if (effect.remove) return { ...timer, sharedWith: timer.sharedWith.filter((user) => user !== effect.remove) };
  return withRunState(timer, effect.set);
}

/** A timer with a run state in place of the one it had; `totalDuration` is none. */
export function withRunState(timer, { endTime, remainingDuration, totalDuration }) {
  if (totalDuration !== undefined) return { ...timer, totalDuration };
  const { endTime: _end, remainingDuration: _remaining, ...rest } = timer;
  return endTime === undefined ? { ...rest, remainingDuration } : { ...rest, endTime };
}
