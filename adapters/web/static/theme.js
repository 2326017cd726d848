// @ts-check
/** The terminal's colours are the page's, light or dark: `--term-…` in terminal.css. */

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(`--term-${name}`).trim();
  /** @type {Record<string, string>} */
  const found = {
    background: colour("ground"),
    foreground: colour("ink"),
    cursor: colour("cursor"),
    cursorAccent: colour("ground"),
    selectionBackground: colour("selection"),
  };
  for (const name of NAMES) {
    found[name] = colour(name);
    found[`bright${name[0].toUpperCase()}${name.slice(1)}`] = colour(`bright-${name}`);
  }
  return found;
}

/** How matches are marked. */
export function marks() {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return {
    matchBackground: colour("--term-match"),
    activeMatchBackground: colour("--term-match-here"),
    matchOverviewRuler: colour("--term-match"),
    activeMatchColorOverviewRuler: colour("--term-match-here"),
  };
}
