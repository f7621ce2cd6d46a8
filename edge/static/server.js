/** The server's plain HTTP requests. They reject with an Error whose message is fit to be shown. */

import { explain } from './news.js';

/** {dev, invitations}: whether any name gets a token, as in development mode, and whether timers can be shared by link. */
export function fetchConfig() {
  return fetchJson('/config');
}

/** A token for a user in development mode: {token, user}. */
export async function fetchDevToken(user) {
  const { token, userId } = await post('/dev/token', { user });
  return { token, user: userId };
}

/** An invitation to a timer of one's own: {invitation, expiresAt}. */
export function makeInvitation(token, timerId) {
  return post('/invitations', { timerId }, token);
}

/** Makes the bearer of the token a member: {timerId, owner}. May be repeated. */
export function acceptInvitation(token, invitation) {
  return post('/invitations/accept', { invitation }, token);
}

function post(path, body, token) {
  const headers = { 'Content-Type': 'application/json' };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetchJson(path, { method: 'POST', headers, body: JSON.stringify(body) });
}

async function fetchJson(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new Error('The server can’t be reached.');
  });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ? explain(body.error) : `The server answered with ${response.status}.`);
  return body;
}
