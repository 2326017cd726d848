// @ts-check
/**
 * Server-sent events to the page. Every `put` is an element with an id: it takes the place of the
 * one that is there, or goes where its time says. So a frame that comes twice changes nothing.
 */
import { localTimes } from "./clock.js";

const HIDDEN_MS = 30_000; // a page that nobody sees gives its connection back: browsers have six a host

/** @param {HTMLElement} list the element whose `data-live-src` names the stream */
export function live(list) {
  const url = new URL(list.dataset.liveSrc ?? "", location.href);
  /** @type {EventSource | null} */ let source = null;
  let waitMs = 1000;
  let retry = 0;
  let closing = 0;

  function open() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource(url);
    source.onopen = () => (waitMs = 1000);
    source.addEventListener("put", (event) => {
      if (event.lastEventId) url.searchParams.set("after", event.lastEventId);
      put(list, event.data);
    });
    source.addEventListener("draft", (event) => draft(list, JSON.parse(event.data)));
    source.onerror = () => {
      if (source?.readyState !== EventSource.CLOSED) return; // the browser comes back by itself
      retry = window.setTimeout(open, waitMs);
      waitMs = Math.min(waitMs * 2, 15_000);
    };
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(closing);
    if (document.hidden) {
      closing = window.setTimeout(() => (source?.close(), (source = null)), HIDDEN_MS);
    } else if (source === null || source.readyState === EventSource.CLOSED) {
      open();
    }
  });
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && open());
  fold(list);
  const { follow } = list.dataset;
  if (follow === "always" || (follow === "" && !location.hash && matchMedia("(min-width: 62rem)").matches)) toEnd();
  open();
}

/** @param {HTMLElement} list @param {string} html */
function put(list, html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const follows = isAtEnd();
  for (const fresh of [...template.content.children]) {
    if (!(fresh instanceof HTMLElement)) continue;
    localTimes(fresh);
    insert(list, fresh);
    settle(list, fresh);
  }
  if (follows && list.dataset.put === "append") toEnd();
}

/** @param {HTMLElement} list @param {HTMLElement} fresh */
export function insert(list, fresh) {
  if (fresh.classList.contains("ev-message_reset")) return;
  const known = document.getElementById(fresh.id);
  if (fresh.dataset.into && complete(fresh)) return known?.remove();
  if (known) {
    keepOpen(known, fresh);
    if (!known.isEqualNode(fresh)) replace(known, fresh); // a press that is under way must find it again
  } else if (list.dataset.put === "prepend") {
    list.prepend(fresh);
  } else {
    place(list, fresh);
  }
}

/** Put an item where its time says, looking from the end. @param {HTMLElement} list @param {HTMLElement} fresh */
function place(list, fresh) {
  const at = Number(fresh.dataset.at);
  let next = /** @type {Element | null} */ (null);
  for (let item = list.lastElementChild; item; item = item.previousElementSibling) {
    if (item instanceof HTMLElement && !item.classList.contains("ev-draft") && Number(item.dataset.at) <= at) break;
    next = item;
  }
  list.insertBefore(fresh, next);
}

/** Put the end of a tool call into its beginning. @param {HTMLElement} end @returns {boolean} whether that is here */
function complete(end) {
  const start = document.getElementById(end.dataset.into ?? "");
  const fold = start?.querySelector("details");
  const outcome = end.querySelector(".outcome");
  if (!start || !fold || !outcome) return false;
  fold.querySelector(".outcome")?.replaceWith(outcome);
  fold.querySelector(".produced")?.remove();
  const produced = end.querySelector(".produced");
  if (produced) fold.querySelector(".raw")?.before(produced);
  start.classList.toggle("bad", end.classList.contains("bad"));
  return true;
}

/** Complete what the server sent in two pieces. @param {HTMLElement} list */
export function fold(list) {
  for (const end of [...list.querySelectorAll("[data-into]")]) {
    if (end instanceof HTMLElement && complete(end)) end.remove();
  }
}

/** What people opened stays open. @param {Element} known @param {Element} fresh */
function keepOpen(known, fresh) {
  const before = [...known.querySelectorAll("details")];
  const after = [...fresh.querySelectorAll("details")];
  if (before.length !== after.length) return;
  before.forEach((details, n) => details.open && (after[n].open = true));
}

/** A form that asks the same stays, with what people write in it. @param {Element} known @param {Element} fresh */
function replace(known, fresh) {
  const focused = document.activeElement;
  const before = [...known.querySelectorAll("form")];
  for (const form of fresh.querySelectorAll("form")) {
    const same = before.find((old) => old.outerHTML === form.outerHTML);
    if (same) form.replaceWith(same);
  }
  known.replaceWith(fresh);
  if (focused instanceof HTMLElement && fresh.contains(focused)) focused.focus({ preventScroll: true });
}

/** A message that is stored, thrown away or over has no draft. @param {HTMLElement} list @param {HTMLElement} fresh */
function settle(list, fresh) {
  const all = fresh.matches(".ev-turn_end, .ev-session_state");
  for (const old of list.querySelectorAll(".ev-draft")) {
    if (all || (old instanceof HTMLElement && old.dataset.message === fresh.dataset.message)) old.remove();
  }
}

/**
 * Text as it is written. A piece that does not continue what is here is from before a break.
 * @param {HTMLElement} list
 * @param {{message: string, at: number, text: string}} piece
 */
function draft(list, piece) {
  const follows = isAtEnd();
  let item = [...list.querySelectorAll(".ev-draft")].find(
    (old) => old instanceof HTMLElement && old.dataset.message === piece.message,
  );
  if (!item) {
    item = document.createElement("li");
    item.className = "ev ev-message_text ev-draft";
    item.setAttribute("data-message", piece.message);
    list.append(item);
  }
  if (piece.at === 0) item.textContent = "";
  item.append(piece.text);
  if (follows) toEnd();
}

function isAtEnd() {
  return innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
}

function toEnd() {
  scrollTo({ top: document.documentElement.scrollHeight });
}
