import assert from 'node:assert/strict';
import { test } from 'node:test';

import { describeError, describeUpdate, explain, titleOf } from '../../edge/static/news.js';
import { RequestError } from '../../edge/static/requests.js';

const NOW = Date.UTC(2026, 10, 24, 8, 0, 0);
const ready = { id: 'tea', name: 'Tea', totalDuration: 'PT5M', sharedWith: ['bob'], version: 1 };
const running = { ...ready, endTime: '2026-11-24T08:03:00Z', version: 2 };
const paused = { ...ready, remainingDuration: 'PT3M', version: 3 };
const tell = (before, after) => describeUpdate({ before, after: { ...after, version: 9 } }, NOW);

test('each change of a timer is told in a sentence', () => {
  assert.equal(tell(undefined, ready), '“Tea” is new.');
  assert.equal(tell(ready, running), '“Tea” was started.');
  assert.equal(tell(running, paused), '“Tea” was paused.');
  assert.equal(tell(paused, running), '“Tea” was resumed.');
  assert.equal(tell(running, { ...running, endTime: '2026-11-24T08:04:00.004Z' }), '“Tea” got 1 minute more.');
  assert.equal(tell(ready, { ...ready, totalDuration: 'PT10M' }), '“Tea” got 5 minutes more.');
  assert.equal(tell(ready, { ...ready, name: 'Coffee' }), '“Tea” is now called “Coffee”.');
  assert.equal(tell(ready, { ...ready, sharedWith: ['bob', 'carol'] }), '“Tea” is now shared with carol.');
  assert.equal(tell(ready, { ...ready, sharedWith: [] }), 'bob no longer sees “Tea”.');
});

test('who did it is told where it is known', () => {
  const change = { before: running, after: { ...paused, version: 9 } };
  assert.equal(describeUpdate(change, NOW, 'bob'), '“Tea” was paused by bob.');
});

test('what one did oneself is no news, but who joined is', () => {
  const change = { before: running, after: { ...paused, version: 9 } };
  assert.equal(describeUpdate(change, NOW, 'alice', 'alice'), null);
  assert.equal(describeUpdate({ before: undefined, after: ready }, NOW, 'alice', 'alice'), null);
  const joined = { before: ready, after: { ...ready, sharedWith: ['bob', 'carol'] } };
  assert.equal(describeUpdate(joined, NOW, 'alice', 'alice'), '“Tea” is now shared with carol.');
});

test('a state that comes twice is no news, and neither is one that a stop overtook', () => {
  assert.equal(describeUpdate({ before: running, after: running }, NOW), null);
  assert.equal(describeUpdate({ before: undefined, after: undefined }, NOW), null);
});

test('errors say what failed and why', () => {
  assert.equal(describeError('pause “Tea”', new RequestError(404, 'x')),
    'Could not pause “Tea”: it has been stopped meanwhile.');
  assert.equal(describeError('share “Tea”', new RequestError(400, 'Unknown user name.')),
    'Could not share “Tea”: unknown user name.');
});

test('an error tells people what was wrong, without the name of a field', () => {
  const refusal = (message) => describeError('share “Tea”', new RequestError(400, message));
  assert.equal(refusal('sharedWithUser must have at most 128 bytes'),
    'Could not share “Tea”: the name of the user must have at most 128 bytes.');
  assert.equal(refusal('messageId must be a string'), 'Could not share “Tea”: what was sent must be a string.');
  assert.equal(refusal('The owner can neither be added nor removed'),
    'Could not share “Tea”: the owner can neither be added nor removed.');
  assert.equal(explain('user must not be empty'), 'The name must not be empty');
});

test('no name turns a sentence around', () => {
  assert.equal(titleOf({ name: 'bad\u202ename' }), '“bad\ufffdname”');
  assert.equal(titleOf({}), '“Unnamed”');
  const change = { before: { ...ready, name: 'תה' }, after: { ...ready, name: 'תה', sharedWith: ['bob', 'דנה'], version: 9 } };
  assert.equal(describeUpdate(change, NOW), '“\u2068תה\u2069” is now shared with \u2068דנה\u2069.');
  assert.equal(describeUpdate({ before: running, after: { ...paused, version: 9 } }, NOW, 'b\u202eob'), '“Tea” was paused by b\ufffdob.');
});
