import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ServerClock } from '../../edge/static/clock.js';

/** A clock of a machine that is `behind` milliseconds behind the server, and exchanges with the server at given delays. */
function atTime(start, behind = 0) {
  const machine = { now: start };
  const clock = new ServerClock(() => machine.now);
  const exchange = ({ there, back, thinking = 0 }) => {
    const sentAt = machine.now;
    machine.now += there + thinking + back;
    const receivedTime = sentAt + behind + there;
    clock.sample({ sentAt, receivedTime, serverTime: receivedTime + thinking, receivedAt: machine.now });
  };
  return { machine, clock, exchange, truth: () => machine.now + behind };
}

test('without an exchange it is the machine\'s own, and nobody knows how wrong', () => {
  const { clock } = atTime(1000);
  assert.equal(clock.now(), 1000);
  assert.equal(clock.error, Infinity);
});

test('what the server took to answer does not count', () => {
  const { clock, exchange } = atTime(1_000_000, 300_000);
  exchange({ there: 20, back: 20, thinking: 900 });
  assert.equal(clock.offset, 300_000);
  assert.equal(clock.error, 21);
});

test('a server that does not say when it got the ping answered at once', () => {
  const clock = new ServerClock(() => 1040);
  clock.sample({ sentAt: 1000, receivedTime: null, serverTime: 5020, receivedAt: 1040 });
  assert.equal(clock.now(), 5040);
});

test('the error bound holds, however unequal the two ways were', () => {
  for (const [there, back] of [[0, 200], [200, 0], [150, 50], [3, 90]]) {
    const { clock, exchange, truth } = atTime(1_000_000, -86_400_000);
    exchange({ there, back, thinking: 5 });
    assert.ok(Math.abs(clock.now() - truth()) <= clock.error, `${there} there, ${back} back`);
  }
});

test('the exchange with the least round trip counts', () => {
  const { clock, exchange, truth } = atTime(1_000_000, 5000);
  exchange({ there: 200, back: 0 });
  exchange({ there: 3, back: 3 });
  exchange({ there: 0, back: 300 });
  assert.ok(Math.abs(clock.now() - truth()) < 0.01);
  assert.ok(clock.error < 5);
});

test('an old exchange loses its worth, since clocks drift', () => {
  const { machine, clock, exchange } = atTime(1_000_000, 5000);
  exchange({ there: 3, back: 3 });
  const fresh = clock.error;
  machine.now += 600_000;
  assert.ok(clock.error > fresh + 50);
  exchange({ there: 20, back: 20 });
  assert.ok(clock.error < 22);
});

test('when the machine has slept, the first exchange that contradicts the past replaces it', () => {
  const machine = { now: 1_000_000 };
  const clock = new ServerClock(() => machine.now);
  const ask = (serverIsAhead) => {
    const sentAt = machine.now;
    machine.now += 10;
    clock.sample({ sentAt, receivedTime: sentAt + 5 + serverIsAhead, serverTime: sentAt + 5 + serverIsAhead, receivedAt: machine.now });
  };
  for (let i = 0; i < 8; i += 1) ask(0);
  ask(30_000);
  assert.equal(clock.offset, 30_000);
});
