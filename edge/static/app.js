/** Wiring: who is signed in, their connection, their timers, and the page. */

import { Alarm } from './alarm.js';
import { localNow, ServerClock } from './clock.js';
import { Commands } from './commands.js';
import { Connection } from './connection.js';
import { untilNextTick } from './countdown.js';
import { setText } from './dom.js';
import { JoinDialog, makeLink, passOn } from './invitations.js';
import { Login } from './login.js';
import { describeError, describeUpdate, nameOf, titleOf } from './news.js';
import { Outbox } from './outbox.js';
import { project } from './projection.js';
import { fetchConfig, fetchDevToken } from './server.js';
import { clearSession, deviceId, loadSession, saveSession, takeHash } from './session.js';
import { isolated } from './text.js';
import { parseInstant } from './time.js';
import { Timers } from './timers.js';
import { clearToasts, toast } from './toasts.js';
import { connectionText, View } from './view.js';

const RENEW_BEFORE_MS = 60_000;
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

const clock = new ServerClock(localNow);
const outbox = new Outbox(deviceId);
const alarm = new Alarm(tick);
const login = new Login(start);
const joinDialog = new JoinDialog(joined);
const view = new View({ create, intent, stop, share, unshare, invite, retry, logOut, ranOut, toggleAlarm });

let session = null;
let me = '';
let timers = new Timers();
let connection = null;
let commands = null;
let loaded = false;
let shown = [];
let renewal;
let nextTick;

/** session: {token, user?} */
function start(newSession) {
  session = newSession;
  saveSession(session);
  login.hide();
  timers = new Timers();
  loaded = false;
  connection = new Connection({ ...session, deviceId }, clock, {
    onState, onConnected, onSnapshot, onDelivery, onClock, versions: () => timers.versions(),
  });
  commands = new Commands(outbox, timers, clock, { isOnline, onError: refused });
  outbox.onChange = render;
  view.show(true);
  view.showAlarm(alarm.wanted);
  if (session.user) view.showUser(session.user);
  connection.retry();
  fetchConfig().then(({ invitations }) => view.showLinks(invitations), () => {});
}

/** message: why, when it was not the person's own wish. */
function leave(message = '') {
  const user = session?.user;
  clearSession();
  clearTimeout(renewal);
  session = null;
  connection?.close();
  connection = null;
  if (message) outbox.suspend();
  else outbox.close();
  shown = [];
  alarm.set(shown, clock.now());
  view.show(false);
  joinDialog.close();
  clearToasts();
  login.show({ message, user });
}

function logOut() {
  const count = outbox.entries.length;
  const question = `${count === 1 ? 'One change has' : `${count} changes have`} not been sent yet. Log out and forget them?`;
  if (!count || confirm(question)) leave();
}

// --- what the connection says

function onState(state) {
  if (!session) return;
  if (state.name === 'signed-out') return leave(state.message);
  showConnection();
  // Each attempt of many is no news to somebody who listens.
  if (state.name !== 'connecting') announce(connectionText(state, { seconds: false }));
}

function onConnected(frame) {
  me = frame.userId;
  view.showUser(me);
  outbox.open(me, connection);
  scheduleRenewal(frame.tokenExpiresAt);
}

function onSnapshot(frame) {
  timers.mergeSnapshot(frame);
  loaded = true;
  render();
  joinDialog.ask(me, () => session.token);
}

function onDelivery(frame) {
  const news = take(frame);
  if (news) toast(news);
  render();
}

function onClock() {
  view.showClock(clock.error);
  tick();
}

/** Takes a delivery into the store. Returns a sentence about it, or null. */
function take(frame) {
  if (frame.type === 'timer' && frame.action === 'stop') {
    const stopped = timers.stop(frame.timerId, frame.version);
    return stopped && frame.stoppedBy !== me ? `${titleOf(stopped)} was stopped by ${isolated(frame.stoppedBy)}.` : null;
  }
  if (frame.type === 'share' && frame.action === 'remove') {
    const removed = timers.forget(frame.timerId);
    return removed ? `${titleOf(removed)} is no longer shared with you.` : null;
  }
  const change = timers.merge(frame.timer);
  if (frame.type !== 'share') return describeUpdate(change, clock.now(), frame.changedBy, me);
  return change.before ? null : `${isolated(frame.sharedBy)} shares ${titleOf(frame.timer)} with you.`;
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

// --- what the person does

function isOnline() {
  return connection.state.name === 'connected';
}

function create({ name, ms, run }) {
  attempt(`create ${titleOf({ name })}`, () => commands.create({ name, ms, run, userId: me }));
}

function intent(timer, action, by) {
  attempt(`${action} ${titleOf(timer)}`, () => commands.intent(timer, action, by));
}

function stop(timer) {
  attempt(`stop ${titleOf(timer)}`, () => commands.stop(timer));
}

function share(timer, user) {
  attempt(`share ${titleOf(timer)}`, () => commands.share(timer, user));
}

function unshare(timer, user) {
  if (user === me) attempt(`leave ${titleOf(timer)}`, () => commands.leave(timer, me));
  else attempt(`remove ${isolated(user)}`, () => commands.unshare(timer, user));
}

function attempt(what, command) {
  try {
    // Before the first snapshot nobody knows what is there, nor whose commands these would be.
    if (loaded) command();
    else toast('There is no connection yet, so nothing was changed.', 'error');
  } catch (error) {
    refused(what, error);
  }
}

function refused(what, error) {
  // For whoever reports it: the server's traces and logs have the same id.
  console.warn(`Could not ${what}: ${error.message} Trace id: ${error.traceId}`);
  toast(describeError(what, error), 'error');
}

/** Resolves with a link to a timer, which has been copied or handed on if the browser let us; with null when there is none. */
async function invite(timer) {
  try {
    const link = await makeLink(session.token, timer.id);
    const isPassedOn = await passOn(link, nameOf(timer));
    toast(`${isPassedOn ? 'The link is copied.' : 'Copy the link.'} For a day, whoever opens it can join; `
      + 'removing somebody ends it.');
    return link;
  } catch (error) {
    toast(describeError(`make a link to ${titleOf(timer)}`, error), 'error');
    return null;
  }
}

function joined(answer, error) {
  if (error) toast(describeError('join', error), 'error');
  else if (answer.owner === me) toast('That is a timer of your own.');
}

async function toggleAlarm() {
  const answer = await alarm.toggle();
  view.showAlarm(alarm.wanted);
  if (answer === 'on') toast('You will be told when a bubble is done, also while this page is hidden.');
  if (answer === 'denied') toast('This browser does not let the page notify you: its settings for this site say so.', 'error');
}

// --- the page

function retry() {
  connection?.retry();
}

function render() {
  if (!session || !loaded) return;
  shown = project(timers.all(), outbox.entries);
  view.render(shown, me);
  showConnection();
  tick();
}

function showConnection() {
  view.showConnection(connection.state, outbox.entries.length);
}

function ranOut(timer) {
  toast(`${titleOf(timer)} is done.`, 'done');
  alarm.ring(timer, titleOf(timer));
}

function announce(text) {
  setText(document.getElementById('announcer'), text);
}

/** Shows this moment, and the next one when its time comes. */
function tick() {
  clearTimeout(nextTick);
  if (!session) return;
  const now = clock.now();
  view.tick(now);
  alarm.set(shown, now);
  if (connection.state.name === 'waiting') showConnection();
  nextTick = setTimeout(tick, untilNextTick(shown, now));
}

addEventListener('online', retry);
addEventListener('offline', () => connection?.drop());
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
