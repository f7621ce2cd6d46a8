import assert from 'node:assert/strict';
import { test } from 'node:test';

import { RequestError, Requests } from '../../edge/static/requests.js';
import { newTraceparent, stepWithin, traceIdOf } from '../../edge/static/trace.js';

const FORM = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00$/;

test('every request is a trace of its own, which leaves the recording to the server', () => {
  const sent = [];
  const requests = new Requests((frame) => sent.push(frame));
  requests.request({ type: 'timer' }).catch(() => {});
  requests.request({ type: 'timer' }).catch(() => {});
  for (const { traceparent } of sent) assert.match(traceparent, FORM);
  assert.notEqual(traceIdOf(sent[0].traceparent), traceIdOf(sent[1].traceparent));
  requests.abandonAll('Done.');
});

test('a repetition belongs to the trace of the first attempt', () => {
  const sent = [];
  const requests = new Requests((frame) => sent.push(frame));
  requests.request({ type: 'timer' }).catch(() => {});
  requests.repeatAll();
  assert.equal(sent[0].traceparent, sent[1].traceparent);
  requests.abandonAll('Done.');
});

test('an error names its trace, whether the server answered or not', async () => {
  const sent = [];
  const requests = new Requests((frame) => sent.push(frame));
  const [refused, unanswered] = [requests.request({ type: 'timer' }), requests.request({ type: 'timer' })];
  requests.settle({ status: 'error', messageId: sent[0].messageId, code: 500, error: 'x', traceId: 'abc' });
  requests.abandonAll('Signed out.');
  await assert.rejects(refused, (error) => error instanceof RequestError && error.traceId === 'abc');
  await assert.rejects(unanswered, (error) => error.traceId === traceIdOf(sent[1].traceparent));
});

test('an ack is a step of its own within the trace of the delivery, recorded or not like that one', () => {
  const delivery = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
  const [version, traceId, spanId, flags] = stepWithin(delivery).split('-');
  assert.deepEqual([version, traceId, flags], ['00', '4bf92f3577b34da6a3ce929d0e0e4736', '01']);
  assert.match(spanId, /^[0-9a-f]{16}$/);
  assert.notEqual(spanId, '00f067aa0ba902b7');
  assert.match(newTraceparent(), FORM);
});
