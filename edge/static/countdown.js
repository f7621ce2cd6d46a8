/** What a timer shows at a given moment. Pure: `now` is the server's time, in milliseconds since 1970. */

import { parseDuration, parseInstant } from './time.js';

/** `ready` (not started), `running`, `paused` or `finished`. */
export function stateOf(timer, now) {
  if (timer.endTime !== undefined) return timeLeft(timer, now) > 0 ? 'running' : 'finished';
  if (timer.remainingDuration !== undefined) return timeLeft(timer, now) > 0 ? 'paused' : 'finished';
  return 'ready';
}

/** Milliseconds left, never below 0. */
export function timeLeft(timer, now) {
  if (timer.endTime !== undefined) return Math.max(0, (parseInstant(timer.endTime) ?? now) - now);
  return parseDuration(timer.remainingDuration ?? timer.totalDuration) ?? 0;
}

/** 1 when all of it is left, 0 when it is over. A timer that was extended beyond its full length stays at 1. */
export function fractionLeft(timer, now) {
  const left = timeLeft(timer, now);
  const total = parseDuration(timer.totalDuration) || left;
  return total ? Math.min(1, left / total) : 0;
}

/** Milliseconds since it ran out; null when that is not known (not finished, or paused at its very end). */
export function sinceFinished(timer, now) {
  const end = parseInstant(timer.endTime);
  return end !== null && end <= now ? now - end : null;
}
