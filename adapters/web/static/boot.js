// @ts-check
/** Loads the terminals' page. If the network changes meanwhile, browsers give up: then once more. */

const TRIES_MAX = 3;
const tries = Number(sessionStorage.getItem("tries")) || 0;

try {
  await import("./terminal.js");
  sessionStorage.removeItem("tries");
} catch (error) {
  console.warn(error);
  if (tries < TRIES_MAX) {
    sessionStorage.setItem("tries", String(tries + 1));
    setTimeout(() => location.reload(), 500 * 2 ** tries);
  } else {
    sessionStorage.removeItem("tries");
    const notice = document.getElementById("notice");
    notice?.append("This page could not be loaded whole. Reload it.");
    if (notice) notice.hidden = false;
  }
}
