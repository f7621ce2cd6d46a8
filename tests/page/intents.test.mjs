import assert from 'node:assert/strict';
import { test } from 'node:test';

import { runState, withIntent } from '../../edge/static/intents.js';

const AT = Date.UTC(2026, 10, 24, 8, 0, 0);
const total = { id: 'tea', totalDuration: 'PT10M' };
const states = {
  running: { ...total, endTime: '2026-11-24T08:05:00Z' },
  'run out': { ...total, endTime: '2026-11-24T07:59:00Z' },
  paused: { ...total, remainingDuration: 'PT1M' },
  'not started': total,
};
const until = (time) => ({ ...total, endTime: `2026-11-24T${time}.000Z` });
const left = (remainingDuration) => ({ ...total, remainingDuration });
const unchanged = (state) => states[state];

/** The table of docs/protocol.md, "Intents". */
const TABLE = {
  start: {
    running: unchanged('running'), 'run out': until('08:10:00'), paused: until('08:10:00'), 'not started': until('08:10:00'),
  },
  pause: {
    running: left('PT5M'), 'run out': left('PT0S'), paused: unchanged('paused'), 'not started': unchanged('not started'),
  },
  resume: {
    running: unchanged('running'), 'run out': unchanged('run out'), paused: until('08:01:00'), 'not started': until('08:10:00'),
  },
  extend: {
    running: until('08:07:00'), 'run out': until('08:02:00'), paused: left('PT3M'),
    'not started': { ...total, totalDuration: 'PT12M' },
  },
};

for (const [action, outcomes] of Object.entries(TABLE)) {
  test(`${action} does on the screen what it does on the server`, () => {
    for (const [state, outcome] of Object.entries(outcomes)) {
      const by = action === 'extend' ? 120_000 : undefined;
      assert.deepEqual(withIntent(states[state], { action, by, at: AT }), outcome, state);
    }
  });
}

test('a timer without a length is not started', () => {
  assert.deepEqual(withIntent({ id: 'tea' }, { action: 'start', at: AT }), { id: 'tea' });
});

test('what is sent of a timer is its run state and nothing else', () => {
  assert.deepEqual(runState(states.running), { endTime: '2026-11-24T08:05:00Z' });
  assert.deepEqual(runState(states.paused), { remainingDuration: 'PT1M' });
  assert.deepEqual(runState(total), { totalDuration: 'PT10M' });
});
