// @ts-check
/**
 * Programs ask the terminal what it is and wait for what it types. Where several look, one answers.
 * These are the questions that xterm.js knows
 * (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
 */

const QUESTIONS = [
  { final: "c" }, // what are you
  { prefix: ">", final: "c" },
  { prefix: "=", final: "c" },
  { final: "n" }, // are you well; where is the cursor
  { prefix: "?", final: "n" },
  { intermediates: "$", final: "p" }, // is this mode set
  { prefix: "?", intermediates: "$", final: "p" },
  { prefix: ">", final: "q" },
  { final: "t" }, // how large are you
];
const COLOURS = [4, 10, 11, 12]; // which colour is this: asked with a question mark

/** @param {import("./xterm/xterm.mjs").Terminal} term @param {() => boolean} may */
export function answerOnlyIf(term, may) {
  for (const question of QUESTIONS) term.parser.registerCsiHandler(question, () => !may());
  for (const number of COLOURS) {
    term.parser.registerOscHandler(number, (/** @type {string} */ text) => text.includes("?") && !may());
  }
  term.parser.registerDcsHandler({ intermediates: "$", final: "q" }, () => !may());
}
