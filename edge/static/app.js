/** Wiring: who is signed in, their connection, their timers, and the page. */

import { ServerClock } from './clock.js';
import { Commands } from './commands.js';
import { Connection } from './connection.js';
import { setText } from './dom.js';
import { Login } from './login.js';
import { describeError, describeUpdate, titleOf } from './news.js';
import { fetchDevToken } from './server.js';
import { clearSession, deviceId, loadSession, saveSession, takeHash } from './session.js';
import { parseInstant } from './time.js';
import { Timers } from './timers.js';
import { clearToasts, toast } from './toasts.js';
import { connectionText, View } from './view.js';

const TICK_MS = 250;
const RENEW_BEFORE_MS = 60_000;
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

const clock = new ServerClock();
const login = new Login(start);
const view = new View({ create, intent, stop, share, unshare, retry, logOut, ranOut });

let session = null;
let me = '';
let timers = new Timers();
let connection = null;
let commands = null;
let loaded = false;
let renewal;

/** session: {token, user?} */
function start(newSession) {
  session = newSession;
  saveSession(session);
  login.hide();
  timers = new Timers();
  loaded = false;
  connection = new Connection({ ...session, deviceId }, clock, {
    onState, onConnected, onSnapshot, onDelivery, versions: () => timers.versions(),
  });
  commands = new Commands((frame) => connection.request(frame), timers, render);
  view.show(true);
  if (session.user) view.showUser(session.user);
  connection.retry();
}

function leave(message = '') {
  const user = session?.user;
  clearSession();
  clearTimeout(renewal);
  session = null;
  connection?.close();
  connection = null;
  view.show(false);
  clearToasts();
  login.show({ message, user });
}

function logOut() {
  leave();
}

// --- what the connection says

function onState(state) {
  if (!session) return;
  if (state.name === 'signed-out') return leave(state.message);
  view.showConnection(state);
  // Each attempt of many is no news to somebody who listens.
  if (state.name !== 'connecting') announce(connectionText(state, { seconds: false }));
}

function onConnected(frame) {
  me = frame.userId;
  view.showUser(me);
  scheduleRenewal(frame.tokenExpiresAt);
}

function onSnapshot(frame) {
  timers.mergeSnapshot(frame);
  loaded = true;
  render();
}

function onDelivery(frame) {
  const news = take(frame);
  if (news) toast(news);
  render();
}

/** Takes a delivery into the store. Returns a sentence about it, or null. */
function take(frame) {
  if (frame.type === 'timer' && frame.action === 'stop') {
    const stopped = timers.stop(frame.timerId, frame.version);
    return stopped ? `${titleOf(stopped)} was stopped by ${nameOf(frame.stoppedBy)}.` : null;
  }
  if (frame.type === 'share' && frame.action === 'remove') {
    const removed = timers.forget(frame.timerId);
    return removed ? `${titleOf(removed)} is no longer shared with you.` : null;
  }
  const change = timers.merge(frame.timer);
  if (frame.type !== 'share') return describeUpdate(change, clock.now(), nameOf(frame.changedBy));
  return change.before ? null : `${frame.sharedBy} shares ${titleOf(frame.timer)} with you.`;
}

function nameOf(user) {
  return user === me ? 'you' : user;
}

/** In development mode, sessions go on: a new token is fetched before the old one expires. */
function scheduleRenewal(expiresAt) {
  clearTimeout(renewal);
  if (!expiresAt || !session.user) return;
  const left = parseInstant(expiresAt) - clock.now();
  const delay = Math.max(left - RENEW_BEFORE_MS, left / 2);
  if (delay <= LONGEST_TIMEOUT_MS) renewal = setTimeout(renew, delay);
}

async function renew() {
  try {
    const { token } = await fetchDevToken(session.user);
    const reply = await connection.request({ type: 'auth', token });
    connection.useToken(token);
    session = { ...session, token };
    saveSession(session);
    scheduleRenewal(reply.tokenExpiresAt);
  } catch (error) {
    toast(describeError('renew your session', error), 'error');
  }
}

// --- what the person does; each resolves with whether it worked

function create({ name, ms, run }) {
  return attempt(`create “${name}”`, () => commands.create({ name, ms, run, userId: me }));
}

function intent(timer, action, by) {
  return attempt(`${action} ${titleOf(timer)}`, () => commands.intent(action, timer.id, by));
}

function stop(timer) {
  return attempt(`stop ${titleOf(timer)}`, () => commands.stop(timer.id));
}

function share(timer, user) {
  return attempt(`share ${titleOf(timer)}`, () => commands.share(timer.id, user));
}

function unshare(timer, user) {
  if (user === me) return attempt(`leave ${titleOf(timer)}`, () => commands.leave(timer.id, me));
  return attempt(`remove ${user}`, () => commands.unshare(timer.id, user));
}

async function attempt(what, command) {
  // What is under way is repeated after a reconnect; something new is not even begun, so that nobody believes it done.
  if (connection.state.name !== 'connected') {
    toast('There is no connection right now, so nothing was changed.', 'error');
    return false;
  }
  try {
    await command();
    return true;
  } catch (error) {
    // For whoever reports it: the server's traces and logs have the same id.
    console.warn(`Could not ${what}: ${error.message} Trace id: ${error.traceId}`);
    toast(describeError(what, error), 'error');
    return false;
  }
}

// --- the page

function retry() {
  connection?.retry();
}

function render() {
  if (!session || !loaded) return;
  view.render(timers.all(), me);
  view.tick(clock.now());
}

function ranOut(timer) {
  toast(`${titleOf(timer)} is done.`, 'done');
}

function announce(text) {
  setText(document.getElementById('announcer'), text);
}

setInterval(() => {
  if (!session) return;
  view.tick(clock.now());
  if (connection.state.name === 'waiting') view.showConnection(connection.state);
}, TICK_MS);

addEventListener('online', retry);
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') retry();
});
// Somebody typed another `#user=` into the address bar.
addEventListener('hashchange', () => location.reload());

async function begin() {
  const { token, user } = takeHash();
  if (token) return start({ token });
  if (user) return (await login.show({ user })) && login.signIn(user);
  const saved = loadSession();
  return saved ? start(saved) : login.show();
}

begin();
