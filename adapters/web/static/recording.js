// @ts-check
/** Plays one recording: asciinema-player draws it, we bring it to its second and set its speed. */

const film = /** @type {HTMLElement} */ (document.getElementById("film"));
const note = /** @type {HTMLElement} */ (document.getElementById("film-note"));
const speed = /** @type {HTMLSelectElement} */ (document.getElementById("film-speed"));

/** @param {string} text */
function complain(text) {
  note.textContent = text;
  note.hidden = false;
}

/** Return the recording, or say why there is none. */
async function fetched() {
  const answer = await fetch(film.dataset.src ?? "", { headers: { Accept: "application/json, */*" } });
  if (answer.ok) return await answer.text();
  const problem = await answer.json().catch(() => ({}));
  throw new Error(problem.detail ?? `The recording cannot be read (${answer.status}).`);
}

/** @type {any} */
let player = null;

/**
 * Show the recording at a second.
 * @param {string} data
 * @param {number} at
 * @param {boolean} plays
 */
async function show(data, at, plays) {
  player?.dispose();
  // @ts-expect-error  the player's own script defines it
  player = AsciinemaPlayer.create({ data }, film, {
    fit: "width", controls: true, preload: true, speed: Number(speed.value), cursorMode: "steady",
    theme: "asciinema",
  });
  await player.seek(at);
  if (plays) await player.play();
  const wrapper = film.querySelector(".ap-wrapper");
  if (wrapper instanceof HTMLElement) wrapper.focus({ preventScroll: true });
}

async function start() {
  const data = await fetched();
  let plays = false;
  await show(data, Number(film.dataset.at), false);
  film.dataset.ready = "";
  const watch = () => {
    player.addEventListener("play", () => { plays = true; });
    player.addEventListener("pause", () => { plays = false; });
    player.addEventListener("ended", () => { plays = false; });
  };
  watch();
  speed.addEventListener("change", async () => {
    await show(data, player.getCurrentTime(), plays);
    watch();
  });
  const step = (/** @type {string} */ to) => () => player.seek({ marker: to });
  document.getElementById("film-back")?.addEventListener("click", step("prev"));
  document.getElementById("film-next")?.addEventListener("click", step("next"));
}

start().catch((error) => complain(error.message));
