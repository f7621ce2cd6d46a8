/** Sentences for what others did and for what went wrong. Pure. */

import { stateOf, timeLeft } from './countdown.js';
import { isolated, printable } from './text.js';
import { formatSpan, parseDuration } from './time.js';

/** A timer's name in a place of its own. */
export function nameOf(timer) {
  return printable(timer?.name || 'Unnamed');
}

/** A timer's name in a sentence. */
export function titleOf(timer) {
  return `“${isolated(nameOf(timer))}”`;
}

/** Users in a sentence. */
export function listOf(users) {
  return users.map(isolated).join(', ');
}

/**
 * What a delivered update changed, in a sentence; null when there is nothing worth telling. by: who did it, if known. me: who
 * reads it, and knows what they did themselves, on whichever device.
 */
export function describeUpdate({ before, after }, now, by = '', me = null) {
  if (!after) return null;
  const title = titleOf(after);
  if (!before) return by === me ? null : `${title} is new.`;
  const joined = after.sharedWith.filter((user) => !before.sharedWith.includes(user));
  const left = before.sharedWith.filter((user) => !after.sharedWith.includes(user));
  if (joined.length) return `${title} is now shared with ${listOf(joined)}.`;
  if (left.length) return `${listOf(left)} no longer sees ${title}.`;
  if (after.version === before.version || by === me) return null;
  if (after.name !== before.name) return `${titleOf(before)} is now called ${title}.`;
  return describeState(before, after, now, by && ` by ${isolated(by)}`);
}

function describeState(before, after, now, by) {
  const [was, is] = [stateOf(before, now), stateOf(after, now)];
  const title = titleOf(after);
  if (is === 'running' && was === 'paused') return `${title} was resumed${by}.`;
  if (is === 'running' && was !== 'running') return `${title} was started${by}.`;
  if (is === 'paused' && was === 'running') return `${title} was paused${by}.`;
  const longer = is === 'ready'
    ? (parseDuration(after.totalDuration) ?? 0) - (parseDuration(before.totalDuration) ?? 0)
    : timeLeft(after, now) - timeLeft(before, now);
  if (longer >= 1000) return `${title} got ${formatSpan(Math.round(longer / 1000) * 1000)} more${by}.`;
  return longer <= -1000 ? `${title} was shortened${by}.` : null;
}

const ERRORS = {
  403: 'that is not yours to change',
  404: 'it has been stopped meanwhile',
  409: 'somebody else has changed it meanwhile',
  413: 'that is too long',
  429: 'that was too much at once; wait a little',
  500: 'the server made a mistake',
  503: 'the server is overloaded; try again in a moment',
};

/** What we call what the server's sentences call by its field's name. */
const FIELDS = {
  by: 'the time',
  name: 'the name of the timer',
  sharedWithUser: 'the name of the user',
  totalDuration: 'the time',
  user: 'the name',
};

/** Why the server refused something, by its own account, without names of fields: `sharedWithUser must not be empty`. */
export function explain(message) {
  const words = message.replace(/^[a-z]\w*(?= must )/, (field) => FIELDS[field] ?? 'what was sent');
  return printable(words.charAt(0).toUpperCase() + words.slice(1));
}

/** what: `pause “Tea”`. error: a RequestError. */
export function describeError(what, error) {
  const why = ERRORS[error.code] ?? lowerFirst(explain(error.message).replace(/\.$/, ''));
  return `Could not ${what}: ${why}.`;
}

function lowerFirst(text) {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
