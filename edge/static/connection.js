/**
 * One socket to the server, for as long as the session lasts: connects, notices a dead link, comes back.
 *
 * States, told to `onState` as {name, ...}:
 *   connecting
 *   connected
 *   waiting     {retryAt}: the link is down; the next attempt is at that local time
 *   signed-out  {message}: the token is of no use any more
 *   closed      by `close()`
 */

import { FINAL_CODES, MESSAGE_TOO_BIG, reconnectDelay, TOKEN_REFUSED } from './reconnect.js';
import { Requests } from './requests.js';
import { parseInstant } from './time.js';
import { stepWithin } from './trace.js';

const HANDSHAKE_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 5_000;
const PONG_TIMEOUT_MS = 10_000;
/** A connection that lasted this long was a good one: the next failure is the first again. */
const STABLE_AFTER_MS = 10_000;
const ACK_INTERVAL_MS = 200;
/** A few exchanges right after connecting, of which the quickest sets the clock; then one a minute, against its drift. */
const FIRST_PINGS = 4;
const FIRST_PINGS_APART_MS = 150;
const CLOCK_INTERVAL_MS = 60_000;
const SYNC_ID = 'sync';

export class Connection {
  #session;
  #clock;
  #handlers;
  #requests = new Requests((frame) => this.#sendWhenReady(frame));
  #socket = null;
  #state = { name: 'closed' };
  #hasSnapshot = false;
  #failures = 0;
  #hintMs = 0;
  #retryTimer;
  #watchTimer;
  #openedAt = 0;
  #heardAt = 0;
  #connectingAt = 0;
  #pingSentAt = null;
  #pongs = 0;
  #ackedAt = 0;

  /**
   * session: {token, deviceId}. clock: a ServerClock.
   * handlers: {onState(state), onConnected(frame), onSnapshot(frame), onDelivery(frame), onClock(), versions()}; the last
   * one returns what `sync` asks with.
   */
  constructor(session, clock, handlers) {
    this.#session = session;
    this.#clock = clock;
    this.#handlers = handlers;
  }

  get state() {
    return this.#state;
  }

  /** Connects now, without waiting for the backoff; does nothing on a living connection but check it. */
  retry() {
    if (this.#socket) this.#checkAlive();
    else this.#connect();
  }

  /** The network is gone, says the browser, which does not close its sockets for that. */
  drop() {
    if (this.#socket) this.#lose();
  }

  /** The token of the next connect. */
  useToken(token) {
    this.#session = { ...this.#session, token };
  }

  /** For good. */
  close() {
    this.#requests.abandonAll('Signed out.');
    this.#leave({ name: 'closed' });
  }

  /** Sends a request. Resolves with its reply, rejects with a RequestError. Repeated over reconnects until answered. */
  request(frame, options) {
    return this.#requests.request(frame, options);
  }

  /** Takes a request back that was not sent yet. */
  withdraw(messageId) {
    return this.#requests.withdraw(messageId);
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#setState({ name: 'connecting' });
    const socket = new WebSocket(this.#url('ws'));
    this.#socket = socket;
    this.#openedAt = Date.now();
    this.#connectingAt = this.#clock.local();
    this.#pingSentAt = null;
    this.#pongs = 0;
    this.#watchTimer = setTimeout(() => this.#lose(), HANDSHAKE_TIMEOUT_MS);
    // A socket we gave up may still speak: only the current one is listened to.
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(JSON.parse(data), this.#clock.local());
    socket.onclose = ({ code }) => socket === this.#socket && this.#closed(code);
  }

  #url(scheme) {
    const url = new URL('/ws', location.href);
    url.protocol = url.protocol.replace('http', scheme);
    url.searchParams.set('token', this.#session.token);
    url.searchParams.set('deviceId', this.#session.deviceId);
    if (this.#hasSnapshot) url.searchParams.set('resume', '1');
    return url.href;
  }

  /** receivedAt: by the local clock, before anything else was done with the frame. */
  #receive(frame, receivedAt) {
    this.#heardAt = Date.now();
    if (frame.status === 'connected') this.#begin(frame, receivedAt);
    else if (frame.status === 'error' && frame.messageId === SYNC_ID) this.#lose();
    else if (frame.status) this.#requests.settle(frame);
    else if (frame.type === 'pong') this.#ponged(frame, receivedAt);
    else if (frame.type === 'snapshot') this.#snapshot(frame);
    else if (frame.type === 'reconnect') this.#hintMs = frame.afterMs;
    else if (frame.type === 'timer' || frame.type === 'share') this.#deliver(frame);
  }

  #begin(frame, receivedAt) {
    // A first idea, as wrong as the handshake was long. If the machine has slept, it contradicts what was known before.
    this.#clock.sample({ sentAt: this.#connectingAt, serverTime: parseInstant(frame.serverTime), receivedAt });
    this.#handlers.onConnected(frame);
    if (this.#hasSnapshot) this.#sendNow({ type: 'sync', messageId: SYNC_ID, ...this.#handlers.versions() });
    this.#ping();
    this.#watch(frame.heartbeat.intervalMs);
    this.#setState({ name: 'connected' });
    this.#requests.repeatAll();
  }

  #snapshot(frame) {
    this.#hasSnapshot = true;
    this.#handlers.onSnapshot(frame);
    this.#requests.proceed();
  }

  #deliver(frame) {
    this.#handlers.onDelivery(frame);
    if (!frame.messageId) return;
    // An ack ends the server's trace of this delivery. Of those that are not traced, a sample will do.
    if (frame.traceparent) {
      this.#sendNow({ type: 'ack', messageId: frame.messageId, traceparent: stepWithin(frame.traceparent) });
    } else if (this.#heardAt - this.#ackedAt >= ACK_INTERVAL_MS) {
      this.#ackedAt = this.#heardAt;
      this.#sendNow({ type: 'ack', messageId: frame.messageId });
    }
  }

  /** Browsers don't show the server's pings to a page, so it asks on its own when it has heard nothing. */
  #watch(intervalMs) {
    clearTimeout(this.#watchTimer);
    this.#watchTimer = setTimeout(() => {
      const clockIsOld = this.#clock.local() - this.#clock.sampledAt >= CLOCK_INTERVAL_MS;
      if (clockIsOld || Date.now() - this.#heardAt >= intervalMs) this.#checkAlive();
      this.#watch(intervalMs);
    }, intervalMs / 5);
  }

  #checkAlive() {
    if (this.#state.name !== 'connected') return;
    // The wait is for an answer to a ping, not for silence: a hidden page's timers are throttled, and silence it slept
    // through says nothing.
    if (this.#pingSentAt === null) this.#ping();
    else if (this.#clock.local() - this.#pingSentAt > PONG_TIMEOUT_MS) this.#lose();
  }

  #ping() {
    this.#pingSentAt = this.#clock.local();
    this.#sendNow({ type: 'ping', timestamp: this.#pingSentAt });
  }

  #ponged(frame, receivedAt) {
    if (frame.timestamp !== this.#pingSentAt) return;
    const [receivedTime, serverTime] = [parseInstant(frame.receivedTime), parseInstant(frame.serverTime)];
    this.#clock.sample({ sentAt: this.#pingSentAt, receivedTime, serverTime, receivedAt });
    this.#pingSentAt = null;
    this.#pongs += 1;
    if (this.#pongs < FIRST_PINGS) setTimeout(() => this.#checkAlive(), FIRST_PINGS_APART_MS);
    this.#handlers.onClock();
  }

  /** Commands wait for the snapshot, too: what they answer is about timers that must be known. */
  #sendWhenReady(frame) {
    if (this.#state.name !== 'connected' || !this.#hasSnapshot) return false;
    this.#sendNow(frame);
    return true;
  }

  #sendNow(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  /** The link is dead or useless, though nobody closed it. The browser's own `close` event may take a minute. */
  #lose() {
    const socket = this.#socket;
    this.#closed(1006);
    socket.close();
  }

  async #closed(code) {
    const wasConnected = this.#state.name === 'connected';
    const wasStable = wasConnected && Date.now() - this.#openedAt >= STABLE_AFTER_MS;
    this.#socket = null;
    clearTimeout(this.#watchTimer);
    const final = FINAL_CODES[code] ?? (wasConnected ? null : await this.#tokenRefusal());
    // While we asked, the person may have signed out or tried again.
    if (this.#state.name === 'closed' || this.#socket) return;
    if (final) {
      this.#requests.abandonAll(final.message);
      this.#setState({ name: final.state, message: final.message });
      return;
    }
    if (code === MESSAGE_TOO_BIG) this.#requests.abandonAll('That was too long for the server.');
    this.#failures = wasStable ? 1 : this.#failures + 1;
    const delay = reconnectDelay({ code, failures: this.#failures, hintMs: this.#hintMs });
    this.#hintMs = 0;
    this.#retryTimer = setTimeout(() => this.#connect(), delay);
    this.#setState({ name: 'waiting', retryAt: Date.now() + delay });
  }

  /** Browsers hide why a handshake was refused. The same address without an upgrade tells whether the token was it. */
  async #tokenRefusal() {
    const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
    const response = await fetch(this.#url('http'), { signal }).catch(() => null);
    return response?.status === 401 ? TOKEN_REFUSED : null;
  }

  #leave(state) {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#watchTimer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000, 'bye');
    this.#setState(state);
  }

  #setState(state) {
    this.#state = state;
    this.#handlers.onState(state);
  }
}
