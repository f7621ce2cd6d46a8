import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Requests } from '../../edge/static/requests.js';

function withSent() {
  const sent = [];
  return { sent, requests: new Requests((frame) => sent.push(frame)) };
}

test('a request resolves with its own reply', async () => {
  const { sent, requests } = withSent();
  const [first, second] = [requests.request({ type: 'share' }), requests.request({ type: 'timer' })];
  requests.settle({ status: 'processed', messageId: sent[1].messageId, version: 2 });
  requests.settle({ status: 'processed', messageId: sent[0].messageId, version: 1 });
  requests.settle({ status: 'processed', messageId: 'of somebody else' });
  assert.equal((await first).version, 1);
  assert.equal((await second).version, 2);
});

test('after a reconnect, what is not answered is sent again, the same and in order', async () => {
  const { sent, requests } = withSent();
  const waiting = ['a', 'b', 'c'].map((timerId) => requests.request({ type: 'timer', timerId }));
  requests.settle({ status: 'processed', messageId: sent[1].messageId });
  requests.repeatAll();
  assert.deepEqual(sent.slice(3), [sent[0], sent[2]]);
  for (const { messageId } of sent) requests.settle({ status: 'processed', messageId });
  await Promise.all(waiting);
});

test('an error rejects, with its code and the whole reply', async () => {
  const { sent, requests } = withSent();
  const refused = requests.request({ type: 'timer' });
  requests.settle({ status: 'error', messageId: sent[0].messageId, code: 403, error: 'Forbidden', field: 'x' });
  await assert.rejects(refused, (error) => error.code === 403 && error.reply.field === 'x');
});

test('an overloaded server is asked again after the time it named, but not for ever', async () => {
  const { sent, requests } = withSent();
  const refused = requests.request({ type: 'timer' });
  const { messageId } = sent[0];
  const overloaded = { status: 'error', messageId, code: 503, error: 'overloaded', retryAfter: 0.001 };
  for (let repeats = 0; repeats < 3; repeats += 1) {
    requests.settle(overloaded);
    while (sent.length < repeats + 2) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  requests.settle(overloaded);
  await assert.rejects(refused, { code: 503 });
  assert.equal(new Set(sent.map((frame) => frame.messageId)).size, 1);
});

test('each repeat waits twice as long as the one before, in terms of what the server says', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { sent, requests } = withSent();
  const refused = requests.request({ type: 'timer' });
  const { messageId } = sent[0];
  for (const wait of [2_000, 4_000, 8_000]) {
    const before = sent.length;
    requests.settle({ status: 'error', messageId, code: 503, error: 'overloaded', retryAfter: 2 });
    context.mock.timers.tick(wait - 1);
    assert.equal(sent.length, before);
    context.mock.timers.tick(1);
    assert.equal(sent.length, before + 1);
  }
  requests.settle({ status: 'error', messageId, code: 503, error: 'overloaded', retryAfter: 2 });
  await assert.rejects(refused, { code: 503 });
});

test('abandoned requests reject with the reason', async () => {
  const { requests } = withSent();
  const refused = requests.request({ type: 'timer' });
  requests.abandonAll('Signed out.');
  await assert.rejects(refused, { code: 0, message: 'Signed out.' });
});
