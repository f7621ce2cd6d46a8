import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { FINAL_CODES, reconnectDelay } from '../../edge/static/reconnect.js';

const longest = (how) => reconnectDelay({ ...how, random: () => 1 });

test('the wait doubles with each failure, up to half a minute', () => {
  const waits = [1, 2, 3, 6, 7, 50].map((failures) => longest({ code: 1006, failures }));
  assert.deepEqual(waits, [1000, 2000, 4000, 30_000, 30_000, 30_000]);
});

test('the wait is random from zero, so that a crowd does not come back together', () => {
  assert.equal(reconnectDelay({ code: 1006, failures: 9, random: () => 0 }), 0);
});

test('after a restart the wait is a part of the time the server named', () => {
  assert.equal(longest({ code: 1012, failures: 1, hintMs: 5000 }), 5000);
  assert.equal(longest({ code: 1012, failures: 1 }), 1000);
});

test('after rate abuse the wait is a minute', () => {
  assert.equal(longest({ code: 4429, failures: 1 }), 60_000);
});

test('the codes after which we do not come back are those of the protocol page', () => {
  const page = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');
  const rows = [...page.split('## Closing')[1].matchAll(/^\| (\d{4}) \|.*\| (.*) \|$/gm)];
  const final = rows.filter(([, , again]) => /^no, not before|^with a new token/.test(again)).map(([, code]) => code);
  assert.deepEqual(Object.keys(FINAL_CODES), final);
});
