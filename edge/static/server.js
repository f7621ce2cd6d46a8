/** The server's plain HTTP requests. They reject with an Error whose message is fit to be shown. */

/** Whether the server runs in development mode, where any name gets a token. */
export async function fetchDevMode() {
  return (await fetchJson('/config')).dev;
}

/** A token for a user in development mode: {token, user}. */
export async function fetchDevToken(user) {
  const { token, userId } = await fetchJson('/dev/token', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user }),
  });
  return { token, user: userId };
}

async function fetchJson(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new Error('The server can’t be reached.');
  });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `The server answered with ${response.status}.`);
  return body;
}
