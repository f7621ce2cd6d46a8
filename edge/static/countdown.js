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
  return Math.max(0, parseDuration(timer.remainingDuration ?? timer.totalDuration) ?? 0);
}

/** 1 when all of it is left, 0 when it is over. A timer that was extended beyond its full length stays at 1. */
export function fractionLeft(timer, now) {
  const left = timeLeft(timer, now);
  const total = Math.max(0, parseDuration(timer.totalDuration) ?? 0) || left;
  return total ? Math.min(1, left / total) : 0;
}

/** Milliseconds since it ran out; null when that is not known (not finished, or paused at its very end). */
export function sinceFinished(timer, now) {
  const end = parseInstant(timer.endTime);
  return end !== null && end <= now ? now - end : null;
}

const TICK_MS = 250;

/**
 * Milliseconds until something on the screen changes: the moment a clock shows its next second, or a quarter of a second for
 * what drains. Ticks that follow the timers, and not the moment the page was opened, are what keeps two screens together.
 */
export function untilNextTick(timers, now) {
  const running = timers.filter((timer) => stateOf(timer, now) === 'running');
  return Math.min(TICK_MS, ...running.map((timer) => timeLeft(timer, now) % 1000 || 1000));
}

/** The timer that runs out next, or undefined. */
export function nextToEnd(timers, now) {
  const running = timers.filter((timer) => stateOf(timer, now) === 'running');
  return running.sort((a, b) => timeLeft(a, now) - timeLeft(b, now))[0];
}
