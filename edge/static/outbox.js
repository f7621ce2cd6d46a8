/**
 * What the person did that the server has not answered yet: kept, in order, over lost connections and reloads of the page, and
 * sent with the same messageId until it is answered.
 */

import { RequestError } from './requests.js';

const KEY = 'bubble.outbox';
/** What was done longer ago than this is not wanted any more. */
const KEPT_MS = 3_600_000;
/** What is done offline fits on a screen, and into memory of any size. */
const LIMIT = 50;

export class Outbox {
  #deviceId;
  #storage;
  #now;
  #entries = [];
  #user = null;
  #requests = null;
  onChange = () => {};
  onReply = () => {};
  onError = () => {};

  /** deviceId: a command repeated from another device would be another command. storage: of this window. */
  constructor(deviceId, storage = sessionStorage, now = Date.now) {
    this.#deviceId = deviceId;
    this.#storage = storage;
    this.#now = now;
  }

  /**
   * Whose commands these are, and what sends them (a Connection, or its Requests). Those that this user left behind in this window go first.
   * They are of no use to anybody else, nor to another device once they were sent.
   */
  open(user, requests) {
    this.#requests = requests;
    if (this.#user === user) return;
    this.#user = user;
    const saved = this.#load();
    const isOurs = saved.user === user && Array.isArray(saved.entries);
    const isSame = saved.deviceId === this.#deviceId;
    const entries = isOurs ? saved.entries : [];
    this.#entries = entries.filter((entry) => this.#now() - entry.doneAt < KEPT_MS && (isSame || !entry.sent));
    for (const entry of this.#entries) this.#submit(entry);
    this.#changed();
  }

  /** Somebody signed out, on purpose: forgets everything. */
  close() {
    this.suspend();
    this.#storage.removeItem(KEY);
  }

  /** Somebody's session ended by itself. When the same person signs in again in this window, their commands go on. */
  suspend() {
    this.#user = null;
    this.#entries = [];
  }

  /** Oldest first: {id, what, timerId, frame, effect, doneAt, sent}. */
  get entries() {
    return this.#entries;
  }

  of(timerId) {
    return this.#entries.filter((entry) => entry.timerId === timerId);
  }

  /**
   * what: `pause “Tea”`. frame: the request. effect: what it does on the screen meanwhile (projection.js). Everything must be
   * JSON. Throws a RequestError when too much waits already.
   */
  add({ what, timerId, frame, effect }) {
    if (this.#entries.length >= LIMIT) throw new RequestError(0, 'Too much waits for the connection already.');
    const entry = { id: crypto.randomUUID(), what, timerId, frame, effect, doneAt: this.#now(), sent: false };
    this.#entries = [...this.#entries, entry];
    this.#submit(entry);
    this.#changed();
  }

  /** Takes back what was not sent yet. Returns whether all of it was so; else nothing is taken back. */
  takeBack(entries) {
    if (entries.some((entry) => entry.sent)) return false;
    for (const entry of entries) this.#requests.withdraw(entry.id);
    this.#entries = this.#entries.filter((entry) => !entries.includes(entry));
    this.#changed();
    return true;
  }

  #submit(entry) {
    const onSent = () => {
      entry.sent = true;
      this.#save();
    };
    const patience = KEPT_MS - (this.#now() - entry.doneAt);
    this.#requests.request(entry.frame, { messageId: entry.id, patience, onSent }).then(
      (reply) => this.#settled(entry, () => this.onReply(entry, reply)),
      (error) => this.#settled(entry, () => this.onError(entry, error)),
    );
  }

  #settled(entry, tell) {
    if (!this.#entries.includes(entry)) return; // somebody signed out meanwhile
    this.#entries = this.#entries.filter((other) => other !== entry);
    tell();
    this.#changed();
  }

  #changed() {
    this.#save();
    this.onChange();
  }

  #save() {
    const saved = { user: this.#user, deviceId: this.#deviceId, entries: this.#entries };
    if (this.#entries.length) this.#storage.setItem(KEY, JSON.stringify(saved));
    else this.#storage.removeItem(KEY);
  }

  #load() {
    try {
      return JSON.parse(this.#storage.getItem(KEY)) ?? {};
    } catch {
      return {};
    }
  }
}
