/**
 * Requests that wait for their reply.
 *
 * A request is repeated with its messageId until it is answered: after a reconnect, and when the server asks for it
 * with `retryAfter`: then each time after twice as long, so that repeats do not keep an overloaded server overloaded. The
 * server gives a repeated command its first answer, so nothing happens twice. Repetitions have the trace context of the
 * first attempt.
 */

import { newTraceparent, traceIdOf } from './trace.js';

/** A pause that arrives minutes late does harm: by then the person knows better what they want. */
const GIVE_UP_AFTER_MS = 60_000;
const REPEATS = 3;
const REPEATABLE = new Set([429, 503]);

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
  /** messageId → {frame, resolve, reject, repeats, timeout}, in the order of the requests. */
  #pending = new Map();
  #send;

  /** send: (frame) → void; does nothing while there is no connection. */
  constructor(send) {
    this.#send = send;
  }

  /** Sends a request. Resolves with the reply; rejects with a RequestError. */
  request(frame) {
    const messageId = crypto.randomUUID();
    const traceparent = newTraceparent();
    return new Promise((resolve, reject) => {
      const timeout = setTimeout(() => this.#abandon(messageId, 'The server did not answer.'), GIVE_UP_AFTER_MS);
      const whole = { ...frame, messageId, traceparent };
      this.#pending.set(messageId, { frame: whole, resolve, reject, repeats: 0, timeout });
      this.#repeat(messageId);
    });
  }

  /** Takes a reply: a frame with the `status` `processed` or `error`. */
  settle(reply) {
    const entry = this.#pending.get(reply.messageId);
    if (!entry) return;
    if (reply.status === 'processed') {
      this.#finish(reply.messageId).resolve(reply);
    } else if (REPEATABLE.has(reply.code) && entry.repeats < REPEATS) {
      setTimeout(() => this.#repeat(reply.messageId), (reply.retryAfter ?? 1) * 1000 * 2 ** entry.repeats);
      entry.repeats += 1;
    } else {
      this.#finish(reply.messageId).reject(new RequestError(reply.code, reply.error, reply));
    }
  }

  /** After a reconnect: sends everything again that is not answered. */
  repeatAll() {
    for (const messageId of this.#pending.keys()) this.#repeat(messageId);
  }

  abandonAll(message) {
    for (const messageId of [...this.#pending.keys()]) this.#abandon(messageId, message);
  }

  #abandon(messageId, message) {
    const { frame, reject } = this.#finish(messageId);
    reject(new RequestError(0, message, {}, traceIdOf(frame.traceparent)));
  }

  #repeat(messageId) {
    const entry = this.#pending.get(messageId);
    if (entry) this.#send(entry.frame);
  }

  #finish(messageId) {
    const entry = this.#pending.get(messageId);
    this.#pending.delete(messageId);
    clearTimeout(entry.timeout);
    return entry;
  }
}
