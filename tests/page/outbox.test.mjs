import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { Commands } from '../../edge/static/commands.js';
import { Outbox } from '../../edge/static/outbox.js';
import { project } from '../../edge/static/projection.js';
import { Requests } from '../../edge/static/requests.js';
import { Timers } from '../../edge/static/timers.js';

const NOW = Date.UTC(2026, 10, 24, 8, 0, 0);
const tea = {
  id: 'tea', userId: 'alice', name: 'Tea', totalDuration: 'PT10M', endTime: '2026-11-24T08:05:00Z', version: 10,
  sharedWith: ['bob'], shareVersion: 5,
};

class Storage {
  #items = new Map();
  getItem(key) { return this.#items.get(key) ?? null; }
  setItem(key, value) { this.#items.set(key, value); }
  removeItem(key) { this.#items.delete(key); }
}

const open = [];
/** Whatever waits, waits with a patience of an hour, and so would this process. */
afterEach(() => open.splice(0).forEach((requests) => requests.abandonAll('Done.')));

/** A page of alice's: what it sends while it is online, and what it shows. */
function page({ storage = new Storage(), deviceId = 'web-1', online = true, user = 'alice', wallClock = NOW } = {}) {
  const self = { sent: [], errors: [], online, now: NOW, storage };
  const requests = new Requests((frame) => self.online && Boolean(self.sent.push(frame)));
  open.push(requests);
  const timers = new Timers();
  timers.merge(tea);
  const outbox = new Outbox(deviceId, storage, () => wallClock);
  const commands = new Commands(outbox, timers, { now: () => self.now }, {
    isOnline: () => self.online, onError: (what, error) => self.errors.push([what, error.code]),
  });
  outbox.open(user, requests);
  const shown = (id = 'tea') => project(timers.all(), outbox.entries).find((timer) => timer.id === id);
  const connect = () => { self.online = true; requests.repeatAll(); };
  const answer = async (index, reply) => {
    requests.settle({ status: 'processed', messageId: self.sent[index].messageId, timerId: 'tea', ...reply });
    await new Promise((resolve) => setImmediate(resolve));
  };
  return Object.assign(self, { requests, timers, outbox, commands, shown, connect, answer });
}

test('a button shows its effect at once, and the answer takes its place', async () => {
  const alice = page();
  alice.commands.intent(alice.shown(), 'extend', 60_000);
  assert.equal(alice.shown().endTime, '2026-11-24T08:06:00.000Z');
  assert.deepEqual(alice.shown().waiting, ['add 1 minute to “Tea”']);
  await alice.answer(0, { version: 12, timer: { ...tea, endTime: '2026-11-24T08:07:00Z', version: 12 } });
  assert.equal(alice.shown().endTime, '2026-11-24T08:07:00Z');
  assert.deepEqual(alice.shown().waiting, []);
});

test('what was pressed with a connection and lost its answer is sent again as it was, with the same messageId', () => {
  const alice = page();
  alice.commands.intent(alice.shown(), 'pause');
  alice.online = false;
  alice.connect();
  assert.equal(alice.sent.length, 2);
  assert.deepEqual(alice.sent[0], alice.sent[1]);
});

test('of one timer one command is under way at a time, others do not wait for it', async () => {
  const alice = page();
  alice.timers.merge({ ...tea, id: 'eggs' });
  for (let i = 0; i < 3; i += 1) alice.commands.intent(alice.shown(), 'extend', 60_000);
  alice.commands.intent(alice.shown('eggs'), 'pause');
  assert.deepEqual(alice.sent.map((frame) => frame.timerId), ['tea', 'eggs']);
  assert.equal(alice.shown().endTime, '2026-11-24T08:08:00.000Z');
  await alice.answer(0, { version: 12, timer: { ...tea, endTime: '2026-11-24T08:06:00Z', version: 12 } });
  assert.deepEqual(alice.sent.map((frame) => frame.timerId), ['tea', 'eggs', 'tea']);
  assert.equal(alice.shown().endTime, '2026-11-24T08:08:00.000Z');
});

test('a queue that was filled offline is sent a few at a time', async () => {
  const alice = page({ online: false });
  for (let i = 0; i < 20; i += 1) alice.commands.create({ name: `T${i}`, ms: 60_000, run: false, userId: 'alice' });
  alice.connect();
  assert.equal(alice.sent.length, 8);
  for (let i = 0; i < 20; i += 1) await alice.answer(i, { version: 100 + i });
  assert.equal(alice.sent.length, 20);
  assert.deepEqual(alice.outbox.entries, []);
});

test('a pause pressed offline is sent as the state it made, for the version it was made of', () => {
  const alice = page({ online: false });
  alice.commands.intent(alice.shown(), 'pause');
  assert.equal(alice.shown().remainingDuration, 'PT5M');
  alice.now += 120_000;
  alice.connect();
  const [{ messageId, traceparent, ...frame }] = alice.sent;
  assert.deepEqual(frame, {
    type: 'timer', action: 'update', timer: { id: 'tea', remainingDuration: 'PT5M' }, baseVersion: 10,
  });
});

test('several presses offline become one state', () => {
  const alice = page({ online: false });
  alice.commands.intent(alice.shown(), 'extend', 60_000);
  alice.commands.intent(alice.shown(), 'pause');
  alice.commands.intent(alice.shown(), 'extend', 300_000);
  alice.now += 30_000;
  alice.commands.intent(alice.shown(), 'resume');
  alice.connect();
  assert.equal(alice.sent.length, 1);
  assert.deepEqual(alice.sent[0].timer, { id: 'tea', endTime: '2026-11-24T08:11:30.000Z' });
});

test('minutes that were added offline stay intents, and add up with what others added', () => {
  const alice = page({ online: false });
  alice.commands.intent(alice.shown(), 'extend', 60_000);
  alice.commands.intent(alice.shown(), 'extend', 60_000);
  alice.timers.merge({ ...tea, endTime: '2026-11-24T08:06:00Z', version: 11 });
  assert.equal(alice.shown().endTime, '2026-11-24T08:08:00.000Z');
  alice.connect();
  assert.deepEqual([alice.sent[0].action, alice.sent[0].by], ['extend', 'PT1M']);
});

test('when somebody else was quicker, the server\'s state is shown and the person is told', async () => {
  const alice = page({ online: false });
  alice.commands.intent(alice.shown(), 'pause');
  alice.connect();
  const current = { ...tea, endTime: '2026-11-24T08:20:00Z', version: 15 };
  await alice.answer(0, { status: 'error', code: 409, error: 'Conflict', timer: current });
  assert.equal(alice.shown().endTime, '2026-11-24T08:20:00Z');
  assert.deepEqual(alice.errors, [['pause “Tea”', 409]]);
});

test('what is under way when the link breaks may have happened, so what follows stays an intent', () => {
  const alice = page();
  alice.commands.intent(alice.shown(), 'extend', 60_000);
  alice.online = false;
  alice.commands.intent(alice.shown(), 'pause');
  alice.connect();
  assert.equal(alice.outbox.entries[1].frame.action, 'pause');
});

test('a timer made offline runs, is one message with all that was done to it, and its share goes after it', async () => {
  const alice = page({ online: false });
  alice.commands.create({ name: 'Rice', ms: 600_000, run: false, userId: 'alice' });
  const { id } = project(alice.timers.all(), alice.outbox.entries)[0];
  alice.commands.share(alice.shown(id), 'bob');
  alice.commands.intent(alice.shown(id), 'start');
  assert.deepEqual([alice.shown(id).endTime, alice.shown(id).sharedWith], ['2026-11-24T08:10:00.000Z', ['bob']]);
  alice.connect();
  assert.equal(alice.sent.length, 1);
  assert.deepEqual(alice.sent[0].timer, {
    id, name: 'Rice', totalDuration: 'PT10M', endTime: '2026-11-24T08:10:00.000Z',
  });
  await alice.answer(0, { timerId: id, version: 20 });
  assert.deepEqual([alice.sent[1].type, alice.sent[1].sharedWithUser], ['share', 'bob']);
  await alice.answer(1, { timerId: id, sharedWith: ['bob'], shareVersion: 21 });
  assert.deepEqual([alice.shown(id).version, alice.shown(id).sharedWith], [20, ['bob']]);
});

test('a timer made and stopped offline was never there', () => {
  const alice = page({ online: false });
  alice.commands.create({ name: 'Rice', ms: 600_000, run: true, userId: 'alice' });
  const { id } = project(alice.timers.all(), alice.outbox.entries)[0];
  alice.commands.stop(alice.shown(id));
  assert.deepEqual(alice.outbox.entries, []);
  alice.connect();
  assert.deepEqual(alice.sent, []);
});

test('a stop pressed offline stops only what was seen', async () => {
  const alice = page({ online: false });
  alice.commands.stop(alice.shown());
  assert.equal(alice.shown(), undefined);
  alice.connect();
  assert.equal(alice.sent[0].baseVersion, 10);
  await alice.answer(0, { status: 'error', code: 409, error: 'Conflict', timer: { ...tea, version: 15 } });
  assert.equal(alice.shown().version, 15);
});

test('after a reload, the queue goes on with the same messageIds', () => {
  const before = page({ online: false });
  before.commands.intent(before.shown(), 'extend', 60_000);
  const [{ id }] = before.outbox.entries;
  const after = page({ storage: before.storage });
  assert.deepEqual(after.sent.map((frame) => [frame.messageId, frame.action]), [[id, 'extend']]);
  assert.equal(after.shown().endTime, '2026-11-24T08:06:00.000Z');
});

test('when a session ends by itself, its commands wait for the same person; when it was ended, they are forgotten', async () => {
  for (const [end, expected] of [['suspend', 1], ['close', 0]]) {
    const before = page({ online: false });
    before.commands.intent(before.shown(), 'extend', 60_000);
    before.requests.abandonAll('Signed out.');
    before.outbox[end]();
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(before.errors, []);
    assert.equal(page({ storage: before.storage }).sent.length, expected);
  }
});

test('nobody sends what another user left behind', () => {
  const before = page({ online: false });
  before.commands.intent(before.shown(), 'extend', 60_000);
  assert.deepEqual(page({ storage: before.storage, user: 'bob' }).sent, []);
});

test('as another device, only what was never sent is sent: the server could not tell a repetition', () => {
  const before = page();
  before.timers.merge({ ...tea, id: 'eggs' });
  before.commands.intent(before.shown(), 'extend', 60_000);
  before.online = false;
  before.commands.intent(before.shown('eggs'), 'extend', 60_000);
  const after = page({ storage: before.storage, deviceId: 'web-2' });
  assert.deepEqual(after.sent.map((frame) => frame.timerId), ['eggs']);
});

test('what was done an hour ago is not wanted any more', () => {
  const before = page({ online: false });
  before.commands.intent(before.shown(), 'extend', 60_000);
  assert.deepEqual(page({ storage: before.storage, wallClock: NOW + 3_600_001 }).sent, []);
});

test('too much at once is refused, not kept', () => {
  const alice = page({ online: false });
  for (let i = 0; i < 50; i += 1) alice.commands.intent(alice.shown(), 'extend', 60_000);
  assert.throws(() => alice.commands.intent(alice.shown(), 'extend', 60_000), { code: 0 });
});

test('members who were added or removed are shown so at once', () => {
  const alice = page();
  alice.commands.share(alice.shown(), 'carol');
  alice.commands.unshare(alice.shown(), 'bob');
  assert.deepEqual(alice.shown().sharedWith, ['carol']);
});
