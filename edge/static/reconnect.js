/** When to come back after a socket was closed. Pure; the tables are those of docs/protocol.md. */

const BACKOFF_BASE_MS = 500;
const BACKOFF_LIMIT_MS = 30_000;
const RATE_ABUSE_PAUSE_MS = 60_000;
const TOO_MANY_PAUSE_MS = 30_000;

/** Close codes after which reconnecting on our own is of no use, and what a person is told. */
export const FINAL_CODES = {
  4401: { state: 'signed-out', message: 'Your session has ended. Please sign in again.' },
};

/** The handshake was answered with 401. */
export const TOKEN_REFUSED = {
  state: 'signed-out', message: 'The server did not accept your token. Please sign in again.',
};

/** The frame that was too big would be again: requests are given up, the connection is not. */
export const MESSAGE_TOO_BIG = 1009;

/**
 * Milliseconds until the next attempt.
 *
 * failures: attempts that failed in a row, at least 1. hintMs: `afterMs` of the server's last `reconnect` frame.
 * Full jitter: a crowd that lost its server together must not come back together.
 */
export function reconnectDelay({ code, failures, hintMs = 0, random = Math.random }) {
  if (code === 4429) return RATE_ABUSE_PAUSE_MS;
  if (code === 4409) return TOO_MANY_PAUSE_MS;
  if (code === 1012 && hintMs > 0) return random() * hintMs;
  return random() * Math.min(BACKOFF_LIMIT_MS, BACKOFF_BASE_MS * 2 ** failures);
}
