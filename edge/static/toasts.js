/** Short sentences at the edge of the screen that go away by themselves. */

const root = document.getElementById('toasts');
const SHOWN_MS = 5000;
const ERROR_SHOWN_MS = 9000;
const LIMIT = 3;

/** kind: `news`, `done` or `error`. */
export function toast(text, kind = 'news') {
  const element = document.createElement('p');
  element.className = `toast ${kind}`;
  element.textContent = text;
  element.addEventListener('click', () => element.remove());
  // The same sentence again takes the place of the first: a person who clicks five times needs no five toasts.
  for (const other of root.children) if (other.textContent === text) other.remove();
  root.append(element);
  while (root.children.length > LIMIT) root.firstElementChild.remove();
  setTimeout(() => element.remove(), kind === 'error' ? ERROR_SHOWN_MS : SHOWN_MS);
}

/** For the next person at this window, what was said to the last one is none of their business. */
export function clearToasts() {
  root.replaceChildren();
}
