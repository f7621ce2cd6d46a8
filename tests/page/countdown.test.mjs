import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  fractionLeft, nextToEnd, sinceFinished, stateOf, timeLeft, untilNextTick,
} from '../../edge/static/countdown.js';

const NOW = Date.UTC(2026, 10, 24, 8, 0, 0);
const total = { totalDuration: 'PT10M' };
const running = { ...total, endTime: '2026-11-24T08:05:00Z' };
const over = { ...total, endTime: '2026-11-24T07:59:00Z' };
const paused = { ...total, remainingDuration: 'PT1M' };

test('the state follows from endTime and remainingDuration', () => {
  assert.equal(stateOf(total, NOW), 'ready');
  assert.equal(stateOf(running, NOW), 'running');
  assert.equal(stateOf(over, NOW), 'finished');
  assert.equal(stateOf(paused, NOW), 'paused');
  assert.equal(stateOf({ ...total, remainingDuration: 'PT0S' }, NOW), 'finished');
});

test('a running timer drains, all others stand still', () => {
  assert.deepEqual([total, running, over, paused].map((timer) => timeLeft(timer, NOW)), [600_000, 300_000, 0, 60_000]);
  assert.deepEqual([total, running, over, paused].map((timer) => fractionLeft(timer, NOW)), [1, 0.5, 0, 0.1]);
});

test('a timer that was extended beyond its length is full, and one without a length too', () => {
  assert.equal(fractionLeft({ totalDuration: 'PT1M', remainingDuration: 'PT5M' }, NOW), 1);
  assert.equal(fractionLeft({ remainingDuration: 'PT5M' }, NOW), 1);
  assert.equal(fractionLeft({}, NOW), 0);
});

test('how long ago it ran out is known from endTime only', () => {
  assert.equal(sinceFinished(over, NOW), 60_000);
  assert.equal(sinceFinished(running, NOW), null);
  assert.equal(sinceFinished({ remainingDuration: 'PT0S' }, NOW), null);
});

test('the next tick comes when the first clock shows its next second, and soon enough for what drains', () => {
  const endingIn = (ms) => ({ ...total, endTime: new Date(NOW + ms).toISOString() });
  assert.equal(untilNextTick([], NOW), 250);
  assert.equal(untilNextTick([total, paused, over], NOW), 250);
  assert.equal(untilNextTick([endingIn(60_100), endingIn(30_170)], NOW), 100);
  assert.equal(untilNextTick([endingIn(60_000)], NOW), 250);
  assert.equal(untilNextTick([endingIn(20)], NOW), 20);
});

test('the one that runs out next is the one that runs and has the least left', () => {
  assert.equal(nextToEnd([total, paused, over], NOW), undefined);
  const sooner = { ...total, endTime: '2026-11-24T08:01:00Z' };
  assert.equal(nextToEnd([running, sooner, over], NOW), sooner);
});
