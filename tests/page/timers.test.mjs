import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Timers } from '../../edge/static/timers.js';

const tea = { id: 'tea', userId: 'alice', name: 'Tea', version: 10, sharedWith: ['bob'], shareVersion: 5 };

function withTea() {
  const timers = new Timers();
  timers.merge(tea);
  return timers;
}

test('a newer state is taken and an older one is not', () => {
  const timers = withTea();
  timers.merge({ ...tea, name: 'Green tea', version: 11 });
  timers.merge({ ...tea, name: 'Old tea', version: 9 });
  assert.equal(timers.get('tea').name, 'Green tea');
});

test('the same state twice changes nothing', () => {
  const { before, after } = withTea().merge({ ...tea });
  assert.deepEqual(after, before);
});

test('state and audience are ordered each by its own version', () => {
  const timers = withTea();
  timers.merge({ ...tea, name: 'New', version: 12, sharedWith: [], shareVersion: 4 });
  assert.deepEqual(timers.get('tea'), { ...tea, name: 'New', version: 12 });
  timers.merge({ ...tea, name: 'Old', version: 11, sharedWith: ['bob', 'carol'], shareVersion: 6 });
  const shares = { sharedWith: ['bob', 'carol'], shareVersion: 6 };
  assert.deepEqual(timers.get('tea'), { ...tea, name: 'New', version: 12, ...shares });
});

test('a field that a newer state lacks is gone', () => {
  const timers = new Timers();
  timers.merge({ ...tea, endTime: '2026-11-24T08:20:30Z' });
  timers.merge({ ...tea, version: 11, remainingDuration: 'PT1M' });
  assert.equal(timers.get('tea').endTime, undefined);
});

test('the audience in a reply is taken unless it is older', () => {
  const timers = withTea();
  timers.mergeShares('tea', { sharedWith: ['carol'], shareVersion: 7 });
  timers.mergeShares('tea', { sharedWith: [], shareVersion: 6 });
  timers.mergeShares('unknown', { sharedWith: [], shareVersion: 6 });
  assert.deepEqual(timers.get('tea').sharedWith, ['carol']);
});

test('an update that was overtaken by a stop does not bring the timer back', () => {
  const timers = withTea();
  assert.equal(timers.stop('tea', 11).name, 'Tea');
  assert.equal(timers.merge({ ...tea, version: 10 }).after, undefined);
  assert.deepEqual(timers.all(), []);
});

test('a timer that is created anew under its old id comes back, and the old stop no longer hurts it', () => {
  const timers = withTea();
  timers.stop('tea', 11);
  timers.merge({ ...tea, version: 12 });
  assert.equal(timers.stop('tea', 11), undefined);
  assert.equal(timers.get('tea').version, 12);
});

test('a stop that arrives before the state it ended is remembered', () => {
  const timers = new Timers();
  assert.equal(timers.stop('tea', 11), undefined);
  timers.merge(tea);
  assert.equal(timers.get('tea'), undefined);
});

test('a timer that was unshared comes back in the same version when it is shared again', () => {
  const timers = withTea();
  timers.forget('tea');
  assert.equal(timers.get('tea'), undefined);
  timers.merge({ ...tea, shareVersion: 7 });
  assert.equal(timers.get('tea').shareVersion, 7);
});

test('a snapshot adds what changed, removes what is gone and keeps the rest', () => {
  const timers = withTea();
  timers.merge({ ...tea, id: 'eggs' });
  timers.mergeSnapshot({ timers: [{ ...tea, id: 'pasta', version: 20 }], gone: ['eggs', 'never-seen'] });
  assert.deepEqual(timers.all().map((timer) => timer.id), ['pasta', 'tea']);
});

test('what changed last comes first', () => {
  const timers = new Timers();
  timers.mergeSnapshot({ timers: [{ ...tea, id: 'new', version: 20 }, { ...tea, id: 'old', version: 10 }] });
  assert.deepEqual(timers.all().map((timer) => timer.id), ['new', 'old']);
});

test('sync asks with both versions of every timer', () => {
  const timers = withTea();
  timers.merge({ id: 'mine', userId: 'alice', version: 3 });
  assert.deepEqual(timers.versions(), { versions: { tea: 10, mine: 3 }, shareVersions: { tea: 5, mine: 0 } });
});
