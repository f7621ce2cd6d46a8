/** Texts that people gave, made fit to be shown among ours. Pure. */

/** What the server lets into no name (runtime/text.py): controls, lone surrogates, and all that turns the direction of text. */
const FORBIDDEN = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\p{Cs}\ufeff]/gu;

/** The blocks of Unicode that are written from right to left (its DerivedBidiClass: those where even unassigned characters are). */
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/**
 * A text of somebody else's, for a place of its own. What an invitation says, and what was typed here and is not answered yet,
 * the server has not looked at.
 */
export function printable(text) {
  return text.replace(FORBIDDEN, '\ufffd');
}

/**
 * The same for a place within a sentence: one that is written from right to left stays a unit, and does not carry along the words
 * and numbers beside it. By characters (FSI and PDI), since tooltips, titles and notices have no elements.
 */
export function isolated(text) {
  const clean = printable(text);
  return RIGHT_TO_LEFT.test(clean) ? `\u2068${clean}\u2069` : clean;
}
