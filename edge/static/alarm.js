/** What happens when a timer runs out, also when nobody looks at the page: a notice and a sound, if the person wants them. */

import { nextToEnd, timeLeft } from './countdown.js';
import { scriptUrl } from './trusted.js';

const WANTED = 'bubble.alarm';
/** Longer ones are set anew on the way. */
const LONGEST_WAIT_MS = 3_600_000;
const BEEPS = 3;
const BEEP_SECONDS = 0.18;

export class Alarm {
  #worker = null;
  #setFor;
  #notices = null;
  #sound = null;

  /** onDue(): a timer is about to have run out. */
  constructor(onDue) {
    this.onDue = onDue;
    if (this.wanted) this.#prepare();
    // Browsers let a page sound only after the person has touched it.
    addEventListener('pointerdown', () => this.wanted && this.#openSound(), { once: true });
  }

  get wanted() {
    return localStorage.getItem(WANTED) === 'on' && globalThis.Notification?.permission === 'granted';
  }

  /** Call it from a click. Resolves with `on`, `off`, or `denied` when the browser does not let us. */
  async toggle() {
    if (this.wanted) {
      localStorage.setItem(WANTED, 'off');
      return 'off';
    }
    this.#openSound();
    const permission = await globalThis.Notification?.requestPermission();
    if (permission !== 'granted') return 'denied';
    localStorage.setItem(WANTED, 'on');
    this.#prepare();
    return 'on';
  }

  /** timers: those that are shown. now: the server's time. */
  set(timers, now) {
    const next = nextToEnd(timers, now);
    if (next?.endTime === this.#setFor) return;
    this.#setFor = next?.endTime;
    this.#worker ??= this.#startWorker();
    this.#worker.postMessage(next ? Math.min(timeLeft(next, now), LONGEST_WAIT_MS) : null);
  }

  /** A timer ran out. `title`: “Tea”. */
  ring(timer, title) {
    if (!this.wanted) return;
    this.#beep();
    if (document.visibilityState === 'visible' && document.hasFocus()) return; // the toast tells it
    // The same end is told once, however many windows are open.
    const options = { tag: `${timer.id} ${timer.endTime}`, icon: '/static/icon.png', body: 'Time is up.', lang: 'en' };
    this.#notices?.then((registration) => registration.showNotification(`${title} is done`, options)).catch(() => {});
  }

  #startWorker() {
    const worker = new Worker(scriptUrl('/static/alarm-worker.js'));
    worker.onmessage = () => {
      this.#setFor = undefined;
      this.onDue();
    };
    return worker;
  }

  #prepare() {
    const address = scriptUrl('/static/notice-worker.js');
    this.#notices ??= navigator.serviceWorker?.register(address).then(whenActive);
  }

  #openSound() {
    this.#sound ??= new AudioContext();
    this.#sound.resume();
  }

  #beep() {
    if (this.#sound?.state !== 'running') return;
    for (let beep = 0; beep < BEEPS; beep += 1) {
      const at = this.#sound.currentTime + beep * 2 * BEEP_SECONDS;
      const [tone, volume] = [this.#sound.createOscillator(), this.#sound.createGain()];
      tone.frequency.value = 880;
      volume.gain.setValueAtTime(0.2, at);
      volume.gain.exponentialRampToValueAtTime(0.001, at + BEEP_SECONDS);
      tone.connect(volume).connect(this.#sound.destination);
      tone.start(at);
      tone.stop(at + BEEP_SECONDS);
    }
  }
}

/** A service worker shows nothing before it is active. */
function whenActive(registration) {
  const worker = registration.installing ?? registration.waiting;
  if (!worker) return registration;
  return new Promise((resolve) => {
    worker.addEventListener('statechange', () => worker.state === 'activated' && resolve(registration));
  });
}
