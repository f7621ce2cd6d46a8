/** One timer on the screen. */

import { fractionLeft, sinceFinished, stateOf, timeLeft } from './countdown.js';
import { clone, hueOf, setText } from './dom.js';
import { nameOf } from './news.js';
import { People } from './people.js';
import { formatClock, formatSpan } from './time.js';

const MINUTE = 60_000;

/** What the main button does in each state. */
const PRIMARY = {
  ready: { action: 'start', text: 'Start', icon: '#icon-play' },
  running: { action: 'pause', text: 'Pause', icon: '#icon-pause' },
  paused: { action: 'resume', text: 'Resume', icon: '#icon-play' },
  finished: { action: 'start', text: 'Again', icon: '#icon-again' },
};
const STATE_TEXT = { ready: 'not started', running: 'running', paused: 'paused', finished: 'finished' };

export class Bubble {
  #parts;
  #people;
  #timer;
  #state;

  /** actions: see app.js; each takes the timer first. */
  constructor(timer, actions) {
    const { root, parts } = clone('bubble-template');
    this.root = root;
    this.#parts = parts;
    this.#people = new People(
      parts,
      (user) => actions.share(this.#timer, user),
      (user) => actions.unshare(this.#timer, user),
      () => actions.invite(this.#timer),
    );
    parts.primary.addEventListener('click', () => actions.intent(this.#timer, PRIMARY[this.#state].action));
    parts.plus1.addEventListener('click', () => actions.intent(this.#timer, 'extend', MINUTE));
    parts.plus5.addEventListener('click', () => actions.intent(this.#timer, 'extend', 5 * MINUTE));
    parts.stop.addEventListener('click', () => actions.stop(this.#timer));
    root.style.setProperty('--hue', hueOf(timer.userId));
  }

  update(timer, me) {
    this.#timer = timer;
    const name = nameOf(timer);
    setText(this.#parts.name, name);
    this.#parts.name.title = name;
    this.root.ariaLabel = name;
    this.#parts.controls.ariaLabel = name;
    setText(this.#parts.waiting, timer.waiting.length ? 'Not sent yet' : '');
    this.#parts.waiting.title = timer.waiting.join(', ');
    this.#people.update(timer, me);
  }

  /** Shows the moment `now`. Returns whether the timer ran out before our eyes. */
  tick(now) {
    const state = stateOf(this.#timer, now);
    const ranOut = state === 'finished' && this.#state === 'running';
    if (state !== this.#state) this.#enter(state);
    const left = timeLeft(this.#timer, now);
    setText(this.#parts.clock, state === 'finished' ? 'Done' : formatClock(left));
    setText(this.#parts.state, this.#stateText(now));
    // A thousandth is less than a pixel of the ring, and most ticks then have nothing to draw.
    this.root.style.setProperty('--left', fractionLeft(this.#timer, now).toFixed(3));
    this.root.classList.toggle('urgent', state === 'running' && left <= 10_000);
    this.#parts.clock.classList.toggle('long', left >= 60 * MINUTE);
    return ranOut;
  }

  /** Takes the bubble off the screen, with a pop. */
  pop() {
    this.root.inert = true;
    this.root.classList.add('popping');
    Promise.allSettled(this.root.getAnimations().map((animation) => animation.finished)).then(() => this.root.remove());
  }

  #enter(state) {
    this.#state = state;
    this.root.dataset.state = state;
    const { text, icon } = PRIMARY[state];
    setText(this.#parts.primaryText, text);
    this.#parts.primaryIcon.setAttribute('href', icon);
  }

  #stateText(now) {
    const since = sinceFinished(this.#timer, now);
    return since !== null && since >= MINUTE ? `${formatSpan(since)} ago` : STATE_TEXT[this.#state];
  }
}
