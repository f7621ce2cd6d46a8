/**
 * Trace contexts (W3C `traceparent`): what a request is called in the server's traces and logs, from this page on.
 *
 * The flags are 00, which leaves to the server whether it records anything. The id is of use in any case: whoever reports
 * a fault can name it, even when no reply came.
 */

const VERSION = '00';
const FLAGS = '00';

/** A new trace. */
export function newTraceparent() {
  return [VERSION, randomHex(16), randomHex(8), FLAGS].join('-');
}

/** A step of ours within the trace of a delivery, such as showing it. */
export function stepWithin(traceparent) {
  const [version, traceId, , flags] = traceparent.split('-');
  return [version, traceId, randomHex(8), flags].join('-');
}

/** The id of a trace, as the server's pages and logs have it. */
export function traceIdOf(traceparent) {
  return traceparent.split('-')[1];
}

function randomHex(bytes) {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
