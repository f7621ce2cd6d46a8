import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isolated, printable } from '../../edge/static/text.js';

test('what turns text around or commands a machine is shown as what it is: no letter', () => {
  assert.equal(printable('bad\u202ename'), 'bad\ufffdname');
  assert.equal(printable('\u2067a\u2069\n\x1b\ufeff\ud800'), '\ufffda\ufffd\ufffd\ufffd\ufffd\ufffd');
});

test('what holds letters and emoji together stays', () => {
  for (const text of ['می‌خواهم', '👩‍🍳', 'Zoë', '茶 🍵', '']) assert.equal(printable(text), text);
});

test('a name from right to left is a unit within a sentence, and nothing in it ends the unit early', () => {
  for (const name of ['תה', 'شاي', 'tea תה', '\u{1e900}']) assert.equal(isolated(name), `\u2068${name}\u2069`);
  assert.equal(isolated('תה\u2069'), '\u2068תה\ufffd\u2069');
});

test('other names are as they were', () => {
  for (const name of ['Tea', 'Zoë', 'चाय', '茶', '👩‍🍳', '5']) assert.equal(isolated(name), name);
});
