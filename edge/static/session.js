/** Who is signed in. Kept per window, so that two windows may be two people. */

const TOKEN = 'bubble.token';
const USER = 'bubble.user';
const DEVICE = 'bubble.device';
const INVITATION = 'bubble.invitation';

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

/**
 * What `/#user=alice`, `/#token=...` or `/#join=...` asks for. Taken out of the address bar at once: a token must not stay there.
 * An invitation is kept until it is answered, since its reader may have to sign in first.
 */
export function takeHash() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const [token, user, join] = ['token', 'user', 'join'].map((name) => fields.get(name));
  if (token || user || join) history.replaceState(null, '', location.pathname + location.search);
  if (join) sessionStorage.setItem(INVITATION, join);
  return { token, user };
}

/** The invitation that is not answered yet, or null. */
export function keptInvitation() {
  return sessionStorage.getItem(INVITATION);
}

export function dropInvitation() {
  sessionStorage.removeItem(INVITATION);
}
