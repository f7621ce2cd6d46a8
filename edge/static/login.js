/** The sign-in form: a name in development mode, a token otherwise. */

import { fetchConfig, fetchDevToken } from './server.js';

export class Login {
  #root = document.getElementById('login');
  #form = document.getElementById('login-form');
  #field = document.getElementById('login-field');
  #message = document.getElementById('login-message');
  #onSession;
  #dev = true;

  /** onSession({token, user?}): somebody signed in. */
  constructor(onSession) {
    this.#onSession = onSession;
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.signIn(this.#field.value.trim());
    });
  }

  /** Shows the form, with a sentence on why when there is one. Resolves with whether a name is enough. */
  async show({ message = '', user = '' } = {}) {
    this.#root.hidden = false;
    this.#message.textContent = message;
    try {
      this.#dev = (await fetchConfig()).dev;
    } catch (error) {
      this.#message.textContent = error.message;
    }
    this.#root.classList.toggle('with-token', !this.#dev);
    document.getElementById('login-label').textContent = this.#dev ? 'Your name' : 'Your access token';
    this.#field.autocomplete = this.#dev ? 'username' : 'off';
    this.#field.value = this.#dev ? user : '';
    this.#field.focus();
    return this.#dev;
  }

  hide() {
    this.#root.hidden = true;
    this.#field.value = '';
  }

  /** With a user name in development mode, with a token otherwise. */
  async signIn(text) {
    if (!text) return;
    this.#message.textContent = '';
    try {
      this.#onSession(this.#dev ? await fetchDevToken(text) : { token: text });
    } catch (error) {
      this.#message.textContent = error.message;
    }
  }
}
