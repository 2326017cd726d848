// @ts-check
/** Times tick and are local. */

/** @param {number} seconds @returns {string} the same words as the server's */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  const rest = whole % 60;
  if (!minutes) return `${rest} s`;
  const hours = Math.floor(minutes / 60);
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return hours ? `${hours} h ${two(minutes % 60)} m` : `${minutes} m ${two(rest)} s`;
}

/** When a ticking number was first seen, on this page's own clock. @type {WeakMap<Element, number>} */
const seen = new WeakMap();

function tick() {
  const now = performance.now();
  for (const element of document.querySelectorAll(".ticks")) {
    if (!seen.has(element)) seen.set(element, now);
    const start = Number(element.getAttribute("data-took")) || 0;
    const words = duration(start + (now - (seen.get(element) ?? now)) / 1000);
    if (element.textContent !== words) element.textContent = words;
  }
}

/** @param {ParentNode} root */
export function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
    if (!(element instanceof HTMLTimeElement)) continue;
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const isShort = element.classList.contains("when");
    const day = isShort ? {} : /** @type {const} */ ({ day: "numeric", month: "short" });
    element.textContent = at.toLocaleString(undefined, { hour: "2-digit", minute: "2-digit", ...day });
    element.title = at.toLocaleString();
  }
}

export function clocks() {
  localTimes(document);
  tick();
  setInterval(tick, 250);
}
