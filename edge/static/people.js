/** Who sees a timer: avatars, and the panel where people are added and removed. */

import { clone, hueOf } from './dom.js';
import { listOf } from './news.js';
import { isolated, printable } from './text.js';

const AVATARS_SHOWN = 3;

/** A round badge with the user's initials. Only for the eye: the name must be readable beside it or in a label. */
export function avatar(user) {
  const element = document.createElement('span');
  element.className = 'avatar';
  element.textContent = initials(user);
  element.title = isolated(user);
  element.ariaHidden = 'true';
  element.style.setProperty('--hue', hueOf(user));
  return element;
}

function initials(user) {
  const [first = '?', second] = user.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  return (second ? [...first][0] + [...second][0] : [...first].slice(0, 2).join('')).toUpperCase();
}

function moreBadge(count) {
  const element = document.createElement('span');
  element.className = 'avatar more';
  element.textContent = `+${count}`;
  return element;
}

export class People {
  #parts;
  #shown = '';

  /** parts: those of the bubble's template. onShare(user). onRemove(user). onInvite(): resolves with a link, or null. */
  constructor(parts, onShare, onRemove, onInvite) {
    this.#parts = parts;
    this.onRemove = onRemove;
    parts.peopleButton.addEventListener('click', () => this.#toggle());
    parts.shareForm.addEventListener('submit', (event) => {
      event.preventDefault();
      const user = parts.shareField.value.trim();
      if (user) onShare(user);
      parts.shareField.value = '';
    });
    parts.linkButton.addEventListener('click', async () => this.#showLink(await onInvite()));
  }

  update(timer, me) {
    const shown = JSON.stringify([timer.userId, timer.sharedWith, me]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const users = [timer.userId, ...timer.sharedWith];
    this.#updateButton(timer, users, me);
    const hadFocus = this.#parts.peopleList.contains(document.activeElement);
    this.#parts.peopleList.replaceChildren(...users.map((user) => this.#person(user, timer, me)));
    if (hadFocus) this.#parts.peopleButton.focus();
    this.#parts.owners.hidden = timer.userId !== me;
    this.#parts.linkField.hidden = true; // a removal has ended it, perhaps
  }

  #showLink(link) {
    const { linkField } = this.#parts;
    linkField.hidden = link === null;
    if (link === null) return;
    linkField.value = link;
    linkField.focus();
    linkField.select();
  }

  #updateButton(timer, users, me) {
    const { avatars, peopleText, owner, peopleButton } = this.#parts;
    avatars.replaceChildren(...users.slice(0, AVATARS_SHOWN).map(avatar));
    if (users.length > AVATARS_SHOWN) avatars.append(moreBadge(users.length - AVATARS_SHOWN));
    const isMine = timer.userId === me;
    peopleText.textContent = isMine ? (users.length > 1 ? 'Shared' : 'Share') : 'by';
    owner.textContent = isMine ? '' : printable(timer.userId);
    peopleButton.title = listOf(users);
    const text = isMine ? peopleText.textContent : `by ${isolated(timer.userId)}`;
    peopleButton.ariaLabel = `${text}. Who sees it: ${listOf(users)}`;
  }

  #person(user, timer, me) {
    const { root, parts } = clone('person-template');
    const isOwner = user === timer.userId;
    parts.avatar.replaceWith(avatar(user));
    parts.name.textContent = printable(user);
    parts.name.title = parts.name.textContent; // the end of a long one is cut off
    parts.note.textContent = [isOwner && 'owner', user === me && 'you'].filter(Boolean).join(', ');
    parts.remove.hidden = isOwner || (user !== me && timer.userId !== me);
    parts.remove.textContent = user === me ? 'Leave' : 'Remove';
    parts.remove.ariaLabel = user === me ? 'Leave this timer' : `Remove ${isolated(user)}`;
    parts.remove.addEventListener('click', () => this.onRemove(user));
    return root;
  }

  #toggle() {
    const { people, peopleButton, owners, shareField } = this.#parts;
    people.hidden = !people.hidden;
    peopleButton.ariaExpanded = String(!people.hidden);
    if (!people.hidden && !owners.hidden) shareField.focus();
  }
}
