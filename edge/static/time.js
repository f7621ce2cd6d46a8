/** ISO-8601 durations and instants, and how people read them. Every number is in milliseconds. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const WEEK = 7 * DAY;

const AMOUNT = String.raw`([+-]?\d+(?:[.,]\d*)?)`;
const DURATION = new RegExp(
  `^([+-]?)P(?=.)(?:${AMOUNT}W)?(?:${AMOUNT}D)?(?:T(?=.)(?:${AMOUNT}H)?(?:${AMOUNT}M)?(?:${AMOUNT}S)?)?$`, 'i',
);
const INSTANT = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?\s?(Z|[+-]\d\d(?::?\d\d)?)?$/i;

/** `PT1H30M` → 5400000; null for anything that is not a duration of weeks to seconds. Any part may have a sign, and the whole. */
export function parseDuration(text) {
  const match = DURATION.exec(text ?? '');
  if (!match) return null;
  const [, sign, ...amounts] = match;
  const units = [WEEK, DAY, HOUR, MINUTE, SECOND];
  const sum = units.reduce((whole, unit, i) => whole + unit * Number((amounts[i] ?? '0').replace(',', '.')), 0);
  return sign === '-' ? 0 - sum : sum;
}

/** 5400000 → `PT1H30M`. */
export function formatDuration(ms) {
  const hours = Math.floor(ms / HOUR);
  const minutes = Math.floor((ms % HOUR) / MINUTE);
  const seconds = Math.round(ms % MINUTE) / SECOND;
  const parts = (hours ? `${hours}H` : '') + (minutes ? `${minutes}M` : '') + (seconds ? `${seconds}S` : '');
  return `PT${parts || '0S'}`;
}

/**
 * An ISO date and time → milliseconds since 1970; null when it is none.
 *
 * Not `Date.parse` alone: that takes an instant without a zone as local time, where the protocol says UTC, and browsers
 * differ on zones without a colon and on more than three decimals, all of which other clients may send.
 */
export function parseInstant(text) {
  const match = INSTANT.exec(text ?? '');
  if (!match) return null;
  const [, date, minutes, seconds = ':00', decimals = '', zone = 'Z'] = match;
  const digits = zone.replace(/\D/g, '').padEnd(4, '0');
  const offset = /z/i.test(zone) ? 'Z' : `${zone[0]}${digits.slice(0, 2)}:${digits.slice(2)}`;
  const ms = Date.parse(`${date}T${minutes}${seconds}.${decimals.padEnd(3, '0').slice(0, 3)}${offset}`);
  return Number.isNaN(ms) ? null : ms;
}

/** Milliseconds since 1970 → an ISO date and time in UTC. */
export function formatInstant(ms) {
  return new Date(Math.round(ms)).toISOString();
}

/** Time left as a clock shows it: `0:09`, `12:00`, `1:02:03`, `2d 01:02:03`. Rounded up, so that 0:00 means over. */
export function formatClock(ms) {
  const total = Math.ceil(Math.max(0, ms) / SECOND);
  const two = (n) => String(n).padStart(2, '0');
  const seconds = two(total % 60);
  const minutes = Math.floor(total / 60) % 60;
  const hours = Math.floor(total / 3600) % 24;
  const days = Math.floor(total / 86400);
  if (days) return `${days}d ${two(hours)}:${two(minutes)}:${seconds}`;
  return hours ? `${hours}:${two(minutes)}:${seconds}` : `${minutes}:${seconds}`;
}

/** A span of time in words, by its largest unit: `5 minutes`, `1 hour`, `2 days`. */
export function formatSpan(ms) {
  const [unit, name] = ms >= DAY ? [DAY, 'day'] : ms >= HOUR ? [HOUR, 'hour'] : ms >= MINUTE ? [MINUTE, 'minute']
    : [SECOND, 'second'];
  const count = Math.floor(ms / unit);
  return `${count} ${name}${count === 1 ? '' : 's'}`;
}
