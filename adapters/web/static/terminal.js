// @ts-check
/** The terminals of a workspace: the page around them. */
import { Keys, keepAboveKeyboard } from "./keys.js";
import { Screen, exitWords } from "./screen.js";
import { Tabs } from "./tabs.js";
import { NEW, Talks, newTab, tabOf } from "./talks.js";
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
let looks = 0;
let hasLooked = false;
let isNewChat = writes && chosen === NEW;

const shown = () => screens.get(chosen);
const isTalk = (/** @type {import("./tabs.js").Tab | undefined} */ tab) => Boolean(tab?.talk);
const talks = new Talks($("screens"), { opened, changed: refresh, leave: () => document.getElementById(`tab-${chosen}`)?.focus() });
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

/** Look what there is. An answer from before something was asked for would take it away again. */
async function load() {
  clearTimeout(looking);
  const look = ++looks;
  try {
    const [conversations, shells] = await Promise.all([ask("GET", "/chats"), ask("GET", "/terminals")]);
    if (look !== looks) return;
    all = [...conversations.map(tabOf), ...(isNewChat ? [newTab()] : []), ...shells];
    for (const id of screens.keys()) if (!shells.some((/** @type {{id: string}} */ tab) => tab.id === id)) drop(id);
    if (!all.some((tab) => tab.id === chosen)) chosen = (shells[0] ?? all[0])?.id ?? "";
    const wantsShell = !hasLooked && shells.length === 0 && writes && !(chosen && chosen === location.hash.slice(1));
    hasLooked = true;
    if (wantsShell) return void open();
    if (chosen) reveal();
    else refresh();
  } catch {
    // The connections say that we are cut off.
  }
  if (look !== looks) return;
  const soon = all.some((tab) => tab.state === "opening" || tab.state === "closing");
  if (!document.hidden) looking = window.setTimeout(load, soon ? LOOK_SOON_MS : LOOK_MS);
}

/** @param {string} id */
function choose(id) {
  const isNew = id !== chosen;
  chosen = id;
  reveal();
  if (isNew) shown()?.claim();
  focus();
}

function focus() {
  if (talks.shown) talks.focus();
  else shown()?.term.focus();
}

/** Show the chosen tab, and look at its terminal if nobody here does yet. */
function reveal() {
  history.replaceState(null, "", `#${chosen}`);
  for (const [id, screen] of screens) screen.panel.hidden = id !== chosen;
  const tab = all.find((one) => one.id === chosen);
  talks.show(tab && isTalk(tab) ? chosen : "");
  if (tab && !isTalk(tab) && !screens.has(chosen) && !isComing(tab) && !tab.error) {
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

/** @param {import("./tabs.js").Tab} tab */
function isComing(tab) {
  return tab.state === "opening" || tab.state === "waiting";
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
  const before = chosen;
  const why = await attempt(async () => {
    const tab = await ask("POST", "/terminals");
    if (chosen === before) chosen = tab.id; // else somebody wants to see something else by now
  });
  write($("empty-text"), why || "No terminal is open.");
  button.toggleAttribute("disabled", false);
  shown()?.term.focus();
}

/** The words for a new chat are written before there is one. */
function openChat() {
  isNewChat = true;
  if (!all.some((tab) => tab.talk === "new")) all.splice(all.filter(isTalk).length, 0, newTab());
  choose(NEW);
}

/** @param {string} id of the chat that the new one became */
function opened(id) {
  isNewChat = false;
  chosen = id;
  void load();
}

/** @param {string} id */
function address(id) {
  return `/${isTalk(strip.tab(id)) ? "chats" : "terminals"}/${encodeURIComponent(id)}`;
}

/** The agent's conversation, once the agent is idle or now. @param {"idle" | "now"} when */
async function openAgent(when) {
  await attempt(async () => {
    const tab = await ask("POST", "/agent", { when });
    chosen = tab.id;
  });
  shown()?.term.focus();
}

/** @param {string} id @param {string} title */
function rename(id, title) {
  void attempt(async () => void (await ask("PATCH", address(id), { title })));
}

/** @param {string} id @param {number} position */
async function move(id, position) {
  const first = isTalk(strip.tab(id)) ? all.filter((tab) => tab.talk === "own").length : all.filter(isTalk).length;
  await attempt(async () => void (await ask("PATCH", address(id), { position: Math.max(0, position - first) })));
  document.getElementById(`tab-${id}`)?.focus();
}

/** What is asked before a tab is closed. @param {import("./tabs.js").Tab} tab @returns {[string, string, string]} */
function closing(tab) {
  if (tab.is_agent) return ["Give it back?", "The agent goes on by itself, with what was said here.", "Give it back"];
  const words = tab.talk ? "Its agent is stopped. What it did stays in the workspace." : "It still runs. What runs in it is ended.";
  return [`Close ${tab.title}?`, words, "Close it"];
}

/** @param {import("./tabs.js").Tab} tab */
async function close(tab) {
  const isOver = ["exited", "ended"].includes(tab.state) || tab.talk === "new" || screens.get(tab.id)?.exitCode !== undefined;
  if (!isOver && !(await agreed(...closing(tab)))) return focus();
  const at = strip.place(tab.id);
  await attempt(async () => {
    if (tab.talk === "new") isNewChat = false;
    else await ask("DELETE", address(tab.id));
    if (chosen === tab.id) chosen = (all[at + 1] ?? all[at - 1])?.id ?? "";
  });
  focus();
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
  document.body.classList.toggle("is-talking", isTalk(tab));
  $("empty").hidden = all.length > 0;
  const notice = screen ? said(screen) : tab ? unseen(tab) : "";
  $("notice").hidden = !notice;
  write($("notice-text"), notice);
  $("notice-now").hidden = !(writes && tab?.state === "waiting");
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
  if (tab.talk) return talks.isLost ? "Not connected. Trying again …" : "";
  const coming = tab.is_agent ? "The agent's conversation is being opened." : "The shell is being opened.";
  const words = { waiting: "The agent is at work. Its conversation opens here when it is idle.", opening: coming };
  return tab.error || (tab.state === "waiting" || tab.state === "opening" ? words[tab.state] : "");
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
  $("agent").onclick = () => void openAgent("idle");
  $("notice-now").onclick = () => void openAgent("now");
  $("empty-new").onclick = () => void open();
  $("new-chat").onclick = openChat;
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
