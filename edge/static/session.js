/** Who is signed in. Kept per window, so that two windows may be two people. */

const TOKEN = 'bubble.token';
const USER = 'bubble.user';
const DEVICE = 'bubble.device';

/** {token, user?} or null. `user` is only known for tokens of the development mode. */
export function loadSession() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { token, user: sessionStorage.getItem(USER) ?? undefined } : null;
}

export function saveSession({ token, user }) {
  sessionStorage.setItem(TOKEN, token);
  if (user) sessionStorage.setItem(USER, user);
  else sessionStorage.removeItem(USER);
}

export function clearSession() {
  sessionStorage.removeItem(TOKEN);
  sessionStorage.removeItem(USER);
}

/**
 * This window's device id, the same over reloads.
 *
 * A device is not told of its own changes, so two windows must never share an id. Duplicating a tab copies its
 * sessionStorage; that is why the id is only in there while no page holds it.
 */
export const deviceId = sessionStorage.getItem(DEVICE) ?? `web-${crypto.randomUUID()}`;
sessionStorage.removeItem(DEVICE);
addEventListener('pagehide', () => sessionStorage.setItem(DEVICE, deviceId));
addEventListener('pageshow', () => sessionStorage.removeItem(DEVICE));

/** What `/#user=alice` or `/#token=...` asks for. Taken out of the address bar at once: a token must not stay there. */
export function takeHash() {
  const fields = new URLSearchParams(location.hash.slice(1));
  if (fields.has('token') || fields.has('user')) history.replaceState(null, '', location.pathname + location.search);
  return { token: fields.get('token'), user: fields.get('user') };
}
