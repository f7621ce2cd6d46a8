/** The page of somebody who is signed in: the bar, the form for a new bubble, and the bubbles. */

import { Bubble } from './bubble.js';
import { stateOf, timeLeft } from './countdown.js';
import { setText } from './dom.js';
import { avatar } from './people.js';
import { isolated, printable } from './text.js';
import { formatClock, formatSpan } from './time.js';

const part = (id) => document.getElementById(id);

export class View {
  /** id → Bubble */
  #bubbles = new Map();
  #timers = [];
  #actions;

  /**
   * actions: create({name, ms, run}) and those of Bubble, retry(), logOut(), toggleAlarm(), ranOut(timer).
   */
  constructor(actions) {
    this.#actions = actions;
    part('log-out').addEventListener('click', () => actions.logOut());
    part('alarm').addEventListener('click', () => actions.toggleAlarm());
    part('connection-retry').addEventListener('click', () => actions.retry());
    part('create').addEventListener('submit', (event) => this.#submit(event));
    part('create-presets').addEventListener('click', ({ target }) => this.#setMinutes(target.value));
    part('create-minutes').addEventListener('input', () => this.#markPreset());
    this.#markPreset();
  }

  show(visible) {
    part('app').hidden = !visible;
    if (visible) return;
    this.render([], '');
    part('empty').hidden = true;
  }

  showUser(user) {
    part('me-avatar').replaceChildren(avatar(user));
    setText(part('me-name'), printable(user));
    part('me-name').title = part('me-name').textContent; // the end of a long one is cut off
  }

  /** timers: in the order of the screen. */
  render(timers, me) {
    this.#timers = timers;
    const ids = new Set(timers.map((timer) => timer.id));
    for (const [id, bubble] of this.#bubbles) if (!ids.has(id)) this.#remove(id, bubble);
    for (const timer of [...timers].reverse()) {
      if (!this.#bubbles.has(timer.id)) this.#add(timer);
      this.#bubbles.get(timer.id).update(timer, me);
    }
    part('empty').hidden = timers.length > 0;
  }

  /** Shows the moment `now`, by the server's clock. */
  tick(now) {
    for (const timer of this.#timers) if (this.#bubbles.get(timer.id).tick(now)) this.#actions.ranOut(timer);
    const running = this.#timers.filter((timer) => stateOf(timer, now) === 'running');
    const next = running.sort((a, b) => timeLeft(a, now) - timeLeft(b, now))[0];
    const title = next ? `${formatClock(timeLeft(next, now))} ${isolated(next.name ?? '')} · Bubble Timer` : 'Bubble Timer';
    if (document.title !== title) document.title = title;
  }

  /** state: the connection's. waiting: how many changes are not sent yet. */
  showConnection(state, waiting) {
    document.body.dataset.connection = state.name;
    setText(part('connection-text'), connectionText(state));
    part('connection-retry').hidden = state.name !== 'waiting';
    const changes = waiting === 1 ? '1 change waits' : `${waiting} changes wait`;
    setText(part('connection-queue'), waiting && state.name !== 'connected' ? `· ${changes}` : '');
  }

  /** error: milliseconds by which our idea of the server's time may be wrong. */
  showClock(error) {
    setText(part('clock-error'), `In step with the server to within ${Math.ceil(error)} ms.`);
  }

  showAlarm(isOn) {
    part('alarm').ariaPressed = String(isOn);
    part('alarm').title = isOn ? 'You are told when a bubble is done' : 'Tell me when a bubble is done';
  }

  /** Whether timers can be shared by link here. */
  showLinks(possible) {
    document.body.classList.toggle('no-links', !possible);
  }

  #add(timer) {
    const bubble = new Bubble(timer, this.#actions);
    this.#bubbles.set(timer.id, bubble);
    part('bubbles').prepend(bubble.root);
  }

  #remove(id, bubble) {
    this.#bubbles.delete(id);
    const hadFocus = bubble.root.contains(document.activeElement);
    const neighbour = bubble.root.nextElementSibling ?? bubble.root.previousElementSibling;
    bubble.pop();
    // Whoever works by keyboard goes on beside what has gone, not at the top of the page.
    if (hadFocus) (neighbour?.querySelector('button') ?? part('create-name')).focus();
  }

  #submit(event) {
    event.preventDefault();
    const ms = Math.round(part('create-minutes').valueAsNumber * 60) * 1000;
    const name = part('create-name').value.trim() || formatSpan(ms);
    const run = event.submitter?.value !== 'later';
    this.#actions.create({ name, ms, run });
    part('create-name').value = '';
  }

  #setMinutes(value) {
    if (!value) return;
    part('create-minutes').value = value;
    this.#markPreset();
  }

  #markPreset() {
    for (const chip of part('create-presets').children) {
      chip.ariaPressed = String(Number(chip.value) === part('create-minutes').valueAsNumber);
    }
  }
}

/** For the eye, and, without the seconds, for the announcer. */
export function connectionText(state, { seconds = true } = {}) {
  if (state.name === 'connected') return 'Connected';
  if (state.name !== 'waiting') return 'Connecting…';
  if (!navigator.onLine) return 'Offline';
  const left = Math.ceil((state.retryAt - Date.now()) / 1000);
  return seconds && left > 0 ? `Reconnecting in ${left} s` : 'Reconnecting…';
}
