// @ts-check
/** The terminals of a workspace: the page around them. */
import { Keys, keepAboveKeyboard } from "./keys.js";
import { Screen, exitWords } from "./screen.js";
import { Tabs } from "./tabs.js";
import { marks } from "./theme.js";

const LOOK_MS = 3000;
const LOOK_SOON_MS = 300;
const REMARK_MS = 4000;

const $ = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const person = document.body.dataset.person ?? "";
const writes = "writes" in document.body.dataset;
const asking = /** @type {HTMLDialogElement} */ ($("asking"));
const findBox = /** @type {HTMLInputElement} */ ($("find-text"));
/** @type {Map<string, Screen>} */ const screens = new Map();
/** @type {import("./tabs.js").Tab[]} */ let all = [];
let chosen = location.hash.slice(1);
let remarkUntil = 0;
let looking = 0;
let hasLooked = false;

const shown = () => screens.get(chosen);
const strip = new Tabs($("tabs"), writes, { choose, rename, move, close });
const keys = new Keys($("keys"), shown, () => void paste());

/** @type {import("./screen.js").Page} */
const page = { writes, person, changed: refresh, refuse: remark, visit, shortcut, modified: (text) => keys.modified(text) };

/** @param {string} method @param {string} path @param {object} [body] */
async function ask(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (answer.status === 401 || answer.status === 410) location.reload(); // the page says why
  if (answer.status === 204) return null;
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail ?? "That did not work.");
  return told;
}

/** Do what a person asked for; say it if it failed. @param {() => Promise<void>} work @returns {Promise<string>} why it failed */
async function attempt(work) {
  let why = "";
  try {
    await work();
  } catch (error) {
    why = error instanceof Error && !(error instanceof TypeError) ? error.message : "Samovar does not answer. Try again.";
    remark(why);
  }
  await load();
  return why;
}

async function load() {
  clearTimeout(looking);
  try {
    all = await ask("GET", "/terminals");
    for (const id of screens.keys()) if (!all.some((tab) => tab.id === id)) drop(id);
    if (!all.some((tab) => tab.id === chosen)) chosen = all[0]?.id ?? "";
    if (chosen) reveal();
    else refresh();
    const isFirst = !hasLooked;
    hasLooked = true;
    if (isFirst && all.length === 0 && writes) void open();
  } catch {
    // The connections say that we are cut off.
  }
  const soon = all.some((tab) => tab.state === "opening" || tab.state === "closing");
  if (!document.hidden) looking = window.setTimeout(load, soon ? LOOK_SOON_MS : LOOK_MS);
}

/** @param {string} id */
function choose(id) {
  const isNew = id !== chosen;
  chosen = id;
  reveal();
  if (isNew) shown()?.claim();
  shown()?.term.focus();
}

/** Show the chosen terminal, and look at it if nobody here does yet. */
function reveal() {
  history.replaceState(null, "", `#${chosen}`);
  for (const [id, screen] of screens) screen.panel.hidden = id !== chosen;
  const tab = all.find((one) => one.id === chosen);
  if (tab && !screens.has(chosen) && tab.state !== "opening" && !tab.error) {
    const panel = document.createElement("section");
    panel.className = "screen";
    panel.id = `panel-${chosen}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", `tab-${chosen}`);
    $("screens").append(panel);
    const url = new URL(`/terminals/${encodeURIComponent(chosen)}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const screen = new Screen(panel, url, page);
    screens.set(chosen, screen);
    screen.search.onDidChangeResults(found);
    if (document.activeElement === document.body) screen.term.focus();
  }
  refresh();
}

/** @param {string} id */
function drop(id) {
  screens.get(id)?.close();
  screens.delete(id);
}

/** One at a time, however often the button is pressed. */
async function open() {
  const button = $("new");
  if (button.hasAttribute("disabled")) return;
  button.toggleAttribute("disabled", true);
  const why = await attempt(async () => {
    const tab = await ask("POST", "/terminals");
    chosen = tab.id;
  });
  write($("empty-text"), why || "No terminal is open.");
  button.toggleAttribute("disabled", false);
  shown()?.term.focus();
}

/** @param {string} id @param {string} title */
function rename(id, title) {
  void attempt(async () => void (await ask("PATCH", `/terminals/${encodeURIComponent(id)}`, { title })));
}

/** @param {string} id @param {number} position */
async function move(id, position) {
  await attempt(async () => void (await ask("PATCH", `/terminals/${encodeURIComponent(id)}`, { position })));
  document.getElementById(`tab-${id}`)?.focus();
}

/** @param {import("./tabs.js").Tab} tab */
async function close(tab) {
  const isOver = tab.state === "exited" || screens.get(tab.id)?.exitCode !== undefined;
  const question = /** @type {const} */ ([`Close ${tab.title}?`, "It still runs. What runs in it is ended.", "Close it"]);
  if (!isOver && !(await agreed(...question))) return shown()?.term.focus();
  const at = strip.place(tab.id);
  await attempt(async () => {
    await ask("DELETE", `/terminals/${encodeURIComponent(tab.id)}`);
    if (chosen === tab.id) chosen = (all[at + 1] ?? all[at - 1])?.id ?? "";
  });
  shown()?.term.focus();
}

/** @param {string} title @param {string} text @param {string} yes @returns {Promise<boolean>} */
function agreed(title, text, yes) {
  $("asking-title").textContent = title;
  $("asking-text").textContent = text;
  $("asking-yes").textContent = yes;
  asking.showModal();
  return new Promise((resolve) => {
    // The answer is taken before the event "close" comes, which is late: keys typed until then would be lost.
    asking.onsubmit = ({ submitter }) => {
      asking.close();
      resolve(submitter === $("asking-yes"));
    };
    asking.onclose = () => asking.open || resolve(false);
  });
}

/**
 * Addresses that programs print: https alone, and they do not learn who sent people.
 * @param {string} url @param {boolean} isHidden whether other words stood in its place
 */
async function visit(url, isHidden) {
  if (!url.startsWith("https://")) return remark("Only https links open from here.");
  if (isHidden && !(await agreed("Open this address?", url, "Open it"))) return;
  window.open(url, "_blank", "noopener,noreferrer");
}

function refresh() {
  const screen = shown();
  const tab = all.find((one) => one.id === chosen);
  for (const one of all) {
    const code = screens.get(one.id)?.exitCode;
    if (code !== undefined) Object.assign(one, { state: "exited", exit_code: code });
  }
  strip.show(all, chosen);
  document.title = `${tab ? `${tab.title} · ` : ""}${document.body.dataset.workspace}`;
  $("empty").hidden = all.length > 0;
  const notice = screen ? said(screen) : tab ? unseen(tab) : "";
  $("notice").hidden = !notice;
  write($("notice-text"), notice);
  $("find-open").toggleAttribute("disabled", !screen);
  $("copy").toggleAttribute("disabled", !screen);
  write($("state"), screen ? stateOf(screen) : "");
  $("state").classList.toggle("is-plain", $("state").textContent === "connected");
  write($("size"), screen ? `${screen.term.cols} × ${screen.term.rows}` : "");
  document.body.classList.toggle("is-cut-off", Boolean(screen && screen.exitCode === undefined && !screen.line.isUp));
  viewers(screen?.viewers ?? []);
}

/** @param {import("./tabs.js").Tab} tab */
function unseen(tab) {
  return tab.error || (tab.state === "opening" ? "The shell is being opened." : "");
}

/** @param {Screen} screen */
function said(screen) {
  const { state } = screen.line;
  if (screen.exitCode !== undefined || state.is === "up") return "";
  if (state.is === "over") return state.why;
  if (state.is === "opening") return screen.taken === null ? "" : "Connecting again …";
  return "Not connected. What you type now is not sent. Trying again …";
}

/** @param {Screen} screen */
function stateOf(screen) {
  if (screen.exitCode !== undefined) return exitWords(screen.exitCode) || "ended";
  const words = { up: writes ? "connected" : "connected, read-only", opening: "connecting", waiting: "not connected", over: "ended" };
  return words[screen.line.state.is];
}

/** @param {import("./frames.js").Viewer[]} viewers */
function viewers(viewers) {
  const rows = viewers.map(({ name, writes, isActive }) => ({ text: writes ? name : `${name} (read-only)`, isActive }));
  const list = $("viewers");
  const wanted = JSON.stringify(rows);
  if (list.dataset.rows === wanted) return;
  list.dataset.rows = wanted;
  list.replaceChildren(
    ...rows.map(({ text, isActive }) => {
      const item = document.createElement("li");
      item.textContent = text;
      item.classList.toggle("is-active", isActive);
      if (isActive) item.title = "The terminal has the size of this screen";
      return item;
    }),
  );
}

/** @param {HTMLElement} element @param {string} text */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {string} text */
function remark(text) {
  const place = $("remark");
  write(place, text);
  place.hidden = false;
  clearTimeout(remarkUntil);
  remarkUntil = window.setTimeout(() => (place.hidden = true), REMARK_MS);
}

async function copy() {
  const screen = shown();
  const text = screen?.term.getSelection() ?? "";
  screen?.term.focus();
  if (!text) return remark("Select something first: drag over it, with Shift where a program takes the mouse.");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (!document.execCommand("copy")) return remark("This browser does not let a page copy.");
  }
  remark("Copied.");
}

async function paste() {
  try {
    shown()?.paste(await navigator.clipboard.readText());
  } catch {
    remark("This browser does not let a page paste. Hold a finger on the terminal, or press Ctrl Shift V.");
  }
}

/** Keys that are the page's own and not the terminal's. @param {KeyboardEvent} event */
function shortcut(event) {
  if (event.type !== "keydown" || event.altKey || event.metaKey || !event.ctrlKey) return false;
  if (event.key === "F6") return taken(event, () => document.getElementById(`tab-${chosen}`)?.focus());
  if (!event.shiftKey) return false;
  if (event.code === "KeyC") return taken(event, () => void copy());
  if (event.code === "KeyF") return taken(event, () => find(true));
  return event.code === "KeyV"; // the browser pastes by itself
}

/** @param {Event} event @param {() => void} work */
function taken(event, work) {
  event.preventDefault();
  work();
  return true;
}

/** @param {boolean} is whether to search */
function find(is) {
  $("find").hidden = !is;
  if (is) return findBox.select();
  shown()?.search.clearDecorations();
  shown()?.term.focus();
}

/** @param {boolean} forward @param {boolean} [isTyping] */
function seek(forward, isTyping = false) {
  const search = shown()?.search;
  const options = { decorations: marks(), incremental: isTyping };
  if (!findBox.value) search?.clearDecorations();
  if (forward) search?.findNext(findBox.value, options);
  else search?.findPrevious(findBox.value, options);
}

/** @param {{resultIndex: number, resultCount: number}} result */
function found({ resultIndex, resultCount }) {
  const at = resultIndex < 0 ? "" : `${resultIndex + 1} of `;
  write($("find-count"), findBox.value ? (resultCount ? `${at}${resultCount}` : "nothing") : "");
}

function listen() {
  $("new").onclick = () => void open();
  $("empty-new").onclick = () => void open();
  $("copy").onclick = () => void copy();
  $("paste").onclick = () => void paste();
  $("find-open").onclick = () => find(true);
  $("find-close").onclick = () => find(false);
  $("find-next").onclick = () => seek(true);
  $("find-back").onclick = () => seek(false);
  findBox.oninput = () => seek(true, true);
  $("find").addEventListener("keydown", (event) => {
    if (event.key === "Escape") find(false);
    else if (event.key === "Enter" && event.target === findBox) seek(!event.shiftKey);
    else return;
    event.preventDefault();
  });
  addEventListener("focus", () => shown()?.claim());
  addEventListener("hashchange", () => all.some((tab) => tab.id === location.hash.slice(1)) && choose(location.hash.slice(1)));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    shown()?.claim();
    void load();
  });
}

keepAboveKeyboard();
listen();
void load();
