/** Sharing by link: making one, and asking whoever opened one whether they want to join. */

import { dropInvitation, keptInvitation } from './session.js';
import { acceptInvitation, makeInvitation } from './server.js';
import { isolated } from './text.js';

/** A link that makes whoever opens it a member of a timer, for a day. */
export async function makeLink(token, timerId) {
  const { invitation } = await makeInvitation(token, timerId);
  return new URL(`/#join=${invitation}`, location.href).href;
}

/** Hands a link on as this device does it. Resolves with whether it is in the clipboard now, or was handed on. */
export async function passOn(link, title) {
  const isPhone = matchMedia('(pointer: coarse)').matches;
  try {
    if (isPhone && navigator.share) await navigator.share({ title: `${isolated(title)} · Bubble Timer`, url: link });
    else await navigator.clipboard.writeText(link);
    return true;
  } catch {
    return false; // the person changed their mind, or the browser does not let us: the link is there to be copied by hand
  }
}

/** Who made an invitation, by its own account: the server checks it when it is accepted. Null when it is none. */
export function inviter(invitation) {
  try {
    const [, claims] = invitation.split('.');
    const bytes = Uint8Array.from(atob(claims.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
    const { owner } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof owner === 'string' && owner ? owner : null;
  } catch {
    return null;
  }
}

/** The question. Nobody joins without it: joining tells the owner one's name. */
export class JoinDialog {
  #dialog = document.getElementById('join');
  #accept;

  /** onJoined(answer, error): the invitation was accepted, or could not be. */
  constructor(onJoined) {
    document.getElementById('join-yes').addEventListener('click', () => this.#answer(onJoined));
    document.getElementById('join-no').addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('close', dropInvitation);
  }

  /** Asks, if there is something to ask. token(): that of the session, at the moment of the answer. */
  ask(me, token) {
    const invitation = keptInvitation();
    if (!invitation || this.#dialog.open) return;
    this.#accept = () => acceptInvitation(token(), invitation);
    document.getElementById('join-text').textContent = `${isolated(inviter(invitation) ?? 'Somebody')} shares a timer with you. `
      + `If you join as ${isolated(me)}, everybody who sees it sees your name.`;
    this.#dialog.showModal();
  }

  close() {
    if (this.#dialog.open) this.#dialog.close();
  }

  async #answer(onJoined) {
    const accepted = this.#accept();
    this.#dialog.close();
    try {
      onJoined(await accepted, null);
    } catch (error) {
      onJoined(null, error);
    }
  }
}
