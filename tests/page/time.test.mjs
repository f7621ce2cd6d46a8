import assert from 'node:assert/strict';
import { test } from 'node:test';

import { formatClock, formatDuration, formatSpan, parseDuration, parseInstant } from '../../edge/static/time.js';

test('durations of weeks to seconds are read', () => {
  const cases = {
    PT5M: 300_000, PT1H30M: 5_400_000, PT0S: 0, 'PT1.5S': 1500, 'PT0,25S': 250, P1D: 86_400_000, P1W: 604_800_000,
    P1DT2H3M4S: 93_784_000, PT90M: 5_400_000, pt5m: 300_000,
    // as phones write and read them
    'PT-5M-3S': -303_000, '-PT5M': -300_000, '-PT0S': 0, '+PT+5M': 300_000, 'PT2H-3M': 7_020_000, 'PT-0.5S': -500, 'PT5.S': 5000,
  };
  for (const [text, ms] of Object.entries(cases)) assert.equal(parseDuration(text), ms, text);
});

test('what is no such duration is null', () => {
  for (const text of ['', 'P', 'PT', '5M', 'P1Y', 'P1M', 'PT5X', 'P1DT', 'PT--5M', '-', undefined, null]) {
    assert.equal(parseDuration(text), null, String(text));
  }
});

test('durations that are written are read back', () => {
  const cases = { PT5M: 300_000, PT1H35M: 5_700_000, PT6S: 6000, PT0S: 0, 'PT1.5S': 1500, PT26H: 93_600_000 };
  for (const [text, ms] of Object.entries(cases)) {
    assert.equal(formatDuration(ms), text);
    assert.equal(parseDuration(text), ms);
  }
});

test('instants are UTC when they have no zone', () => {
  const expected = Date.UTC(2026, 10, 24, 8, 20, 30, 123);
  const same = [
    '2026-11-24T08:20:30.123Z', '2026-11-24T08:20:30.123', '2026-11-24 08:20:30.123456+00:00',
    '2026-11-24T09:20:30,123+01:00', '2026-11-24T09:20:30.123+0100', '2026-11-24T03:20:30.123-05',
  ];
  for (const text of same) assert.equal(parseInstant(text), expected, text);
  assert.equal(parseInstant('2026-11-24T08:20'), Date.UTC(2026, 10, 24, 8, 20));
});

test('what is no instant is null', () => {
  for (const text of ['', 'soon', '2026-11-24', '2026-13-45T00:00:00Z', undefined]) {
    assert.equal(parseInstant(text), null, String(text));
  }
});

test('the clock rounds up, so that 0:00 means over', () => {
  const cases = [[0, '0:00'], [-5, '0:00'], [1, '0:01'], [9000, '0:09'], [60_000, '1:00'], [299_001, '5:00'],
    [3_723_000, '1:02:03'], [176_523_000, '2d 01:02:03']];
  for (const [ms, text] of cases) assert.equal(formatClock(ms), text);
});

test('spans are told by their largest unit', () => {
  const cases = [[1000, '1 second'], [300_000, '5 minutes'], [3_600_000, '1 hour'], [172_800_000, '2 days']];
  for (const [ms, text] of cases) assert.equal(formatSpan(ms), text);
});
