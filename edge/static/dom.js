/** Small helpers for the DOM. */

/** A copy of a `<template>`: its root element, and its elements with `data-part` by that name. */
export function clone(templateId) {
  const root = document.getElementById(templateId).content.firstElementChild.cloneNode(true);
  const parts = Object.fromEntries([...root.querySelectorAll('[data-part]')].map((el) => [el.dataset.part, el]));
  return { root, parts };
}

/** Writes only what differs: four ticks a second must not disturb a screen reader or the layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A hue from 0 to 359 that is always the same for the same text (FNV-1a). */
export function hueOf(text) {
  let hash = 0x811c9dc5;
  for (const char of text) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193) >>> 0;
  return hash % 360;
}
