/** What `start`, `pause`, `resume` and `extend` do to a timer: the table of docs/protocol.md, "Intents". Pure. */

import { stateOf, timeLeft } from './countdown.js';
import { formatDuration, formatInstant, parseDuration, parseInstant } from './time.js';

/** The timer after an intent at the server's time `at`. by: milliseconds, for `extend`. */
export function withIntent(timer, { action, by, at }) {
  const state = stateOf(timer, at);
  const isHeld = timer.endTime === undefined && timer.remainingDuration !== undefined;
  if (action === 'start') return state === 'running' ? timer : runningFrom(timer, at, fullLength(timer));
  if (action === 'pause') return timer.endTime === undefined ? timer : held(timer, timeLeft(timer, at));
  if (action === 'resume') {
    if (isHeld) return runningFrom(timer, at, timeLeft(timer, at));
    return state === 'ready' ? runningFrom(timer, at, fullLength(timer)) : timer;
  }
  if (isHeld) return held(timer, timeLeft(timer, at) + by);
  if (state === 'ready') return { ...timer, totalDuration: formatDuration((fullLength(timer) ?? 0) + by) };
  return runningFrom(timer, Math.max(at, parseInstant(timer.endTime) ?? at), by);
}

/** The fields that say whether and how a timer runs, to be sent as an update. */
export function runState({ endTime, remainingDuration, totalDuration }) {
  if (endTime !== undefined) return { endTime };
  return remainingDuration === undefined ? { totalDuration } : { remainingDuration };
}

function runningFrom(timer, at, ms) {
  if (ms === null) return timer;
  const { remainingDuration, ...rest } = timer;
  return { ...rest, endTime: formatInstant(at + ms) };
}

function held(timer, ms) {
  const { endTime, ...rest } = timer;
  return { ...rest, remainingDuration: formatDuration(ms) };
}

function fullLength(timer) {
  const ms = parseDuration(timer.totalDuration);
  return ms === null ? null : Math.max(0, ms);
}
