/**
 * Requests that wait for their reply.
 *
 * A request is repeated with its messageId until it is answered: after a reconnect, and when the server asks for it
 * with `retryAfter`: then each time after twice as long, so that repeats do not keep an overloaded server overloaded. The
 * server gives a repeated command its first answer, so nothing happens twice: a timer remembers the last 16 commands of each
 * device, and here only one of each timer is under way at a time. Repetitions have the trace context of the first attempt.
 */

import { newTraceparent, traceIdOf } from './trace.js';

/** Of what waits for a reply; what waits for a connection has a patience of its own (outbox.js). */
const GIVE_UP_AFTER_MS = 60_000;
const REPEATS = 3;
const REPEATABLE = new Set([429, 503]);
/** Requests without a reply at a time: a queue that was filled offline must not run into the limit of the rate. */
const WINDOW = 8;

/** The server's error, or ours (code 0) when there was no answer. */
export class RequestError extends Error {
  /** traceId: what the request is called in the server's traces and logs. */
  constructor(code, message, reply = {}, traceId = reply.traceId) {
    super(message);
    this.code = code;
    this.reply = reply;
    this.traceId = traceId;
  }
}

export class Requests {
  /** messageId → {frame, resolve, reject, onSent, state, repeats, timeout}, in the order of the requests. */
  #pending = new Map();
  #send;

  /** send: (frame) → whether it was sent; false while there is no connection. */
  constructor(send) {
    this.#send = send;
  }

  /**
   * Sends a request as soon as that is possible. Resolves with the reply; rejects with a RequestError.
   *
   * messageId: the same as in an earlier life of this page, when it is a repetition. patience: milliseconds until it is given
   * up. onSent(): it is on its way, for the first time.
   */
  request(frame, { messageId = crypto.randomUUID(), patience = GIVE_UP_AFTER_MS, onSent = () => {} } = {}) {
    const traceparent = newTraceparent();
    return new Promise((resolve, reject) => {
      const timeout = setTimeout(() => this.#abandon(messageId, 'The server did not answer.'), patience);
      const whole = { ...frame, messageId, traceparent };
      this.#pending.set(messageId, { frame: whole, resolve, reject, onSent, state: 'new', repeats: 0, timeout });
      this.#pump();
    });
  }

  /** Takes a request back that was not sent yet; its promise stays open. Returns whether it was so. */
  withdraw(messageId) {
    const isNew = this.#pending.get(messageId)?.state === 'new';
    if (isNew) this.#finish(messageId);
    return isNew;
  }

  /** Takes a reply: a frame with the `status` `processed` or `error`. */
  settle(reply) {
    const entry = this.#pending.get(reply.messageId);
    if (!entry) return;
    if (reply.status === 'processed') {
      this.#finish(reply.messageId).resolve(reply);
    } else if (REPEATABLE.has(reply.code) && entry.repeats < REPEATS) {
      entry.state = 'pausing';
      setTimeout(() => this.#repeat(entry), (reply.retryAfter ?? 1) * 1000 * 2 ** entry.repeats);
      entry.repeats += 1;
    } else {
      this.#finish(reply.messageId).reject(new RequestError(reply.code, reply.error, reply));
    }
    this.#pump();
  }

  /** After a reconnect: sends everything again that is not answered. */
  repeatAll() {
    for (const entry of this.#pending.values()) if (entry.state === 'sent') entry.state = 'lost';
    this.#pump();
  }

  /** There is no reason left to wait: sends what was not sent yet. */
  proceed() {
    this.#pump();
  }

  abandonAll(message) {
    for (const messageId of [...this.#pending.keys()]) this.#abandon(messageId, message);
  }

  #abandon(messageId, message) {
    const { frame, reject } = this.#finish(messageId);
    reject(new RequestError(0, message, {}, traceIdOf(frame.traceparent)));
  }

  #repeat(entry) {
    if (entry.state === 'pausing') entry.state = 'lost';
    this.#pump();
  }

  /** Sends what may be sent now: in order, of each timer only the first one, and not too many. */
  #pump() {
    const busy = new Set();
    let underWay = 0;
    for (const entry of this.#pending.values()) {
      const timerId = entry.frame.timerId ?? entry.frame.timer?.id;
      if (entry.state !== 'sent' && entry.state !== 'pausing' && !busy.has(timerId) && underWay < WINDOW) {
        if (!this.#transmit(entry)) return;
      }
      if (entry.state === 'sent') underWay += 1;
      if (timerId !== undefined) busy.add(timerId);
    }
  }

  #transmit(entry) {
    if (this.#send(entry.frame) === false) return false;
    const isFirst = entry.state === 'new';
    entry.state = 'sent';
    if (isFirst) entry.onSent();
    return true;
  }

  #finish(messageId) {
    const entry = this.#pending.get(messageId);
    this.#pending.delete(messageId);
    clearTimeout(entry.timeout);
    entry.state = 'done';
    return entry;
  }
}
