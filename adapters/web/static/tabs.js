// @ts-check
/** The strip of tabs: choose, rename, move, close. It shows what the server says and asks for changes. */

import { liftable } from "./lift.js";

/**
 * @typedef {{id: string, title: string, state: string, exit_code: number | null, error: string, is_agent?: boolean, talk?: "own" | "chat" | "new"}} Tab
 * @typedef {object} Asks
 * @property {(id: string) => void} choose
 * @property {(id: string, title: string) => void} rename
 * @property {(id: string, position: number) => void} move
 * @property {(tab: Tab) => void} close
 */

export class Tabs {
  /** @param {HTMLElement} strip @param {boolean} writes @param {Asks} asks */
  constructor(strip, writes, asks) {
    this.strip = strip;
    this.writes = writes;
    this.asks = asks;
    /** @type {Tab[]} */ this.tabs = [];
    this.chosen = "";
    this.dragged = "";
    strip.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** @param {Tab[]} tabs @param {string} chosen */
  show(tabs, chosen) {
    const isNews = chosen !== this.chosen;
    this.tabs = tabs;
    this.chosen = chosen;
    if (this.strip.querySelector("input")) return; // a name is being written
    const known = new Map([...this.strip.children].map((item) => [item instanceof HTMLElement ? item.dataset.id : "", item]));
    const focused = document.activeElement;
    const items = tabs.map((tab) => {
      const item = known.get(tab.id);
      return item instanceof HTMLElement ? item : this.made(tab);
    });
    if (items.length !== known.size || items.some((item, n) => this.strip.children[n] !== item)) {
      this.strip.replaceChildren(...items);
      if (focused instanceof HTMLElement && this.strip.contains(focused)) focused.focus();
    }
    tabs.forEach((tab, n) => this.fill(items[n], tab));
    if (isNews) items[this.place(chosen)]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** @param {Tab} tab */
  made({ id, talk }) {
    const item = document.createElement("div");
    item.className = "tab";
    item.dataset.id = id;
    item.setAttribute("role", "presentation");
    const button = document.createElement("button");
    button.setAttribute("role", "tab");
    button.id = `tab-${id}`;
    button.setAttribute("aria-controls", `panel-${id}`);
    button.innerHTML = '<span class="dot" aria-hidden="true"></span><span class="tab-title"></span><span class="tab-state"></span>';
    button.onclick = () => this.asks.choose(id);
    item.append(button);
    if (!this.writes || talk === "own") return item;
    const cross = document.createElement("button");
    cross.className = "tab-close";
    cross.tabIndex = -1;
    cross.innerHTML = '<span aria-hidden="true">×</span>';
    cross.onclick = () => this.asks.close(this.tab(id));
    item.append(cross);
    if (talk === "new") return item;
    button.ondblclick = () => this.edit(id);
    this.makeMovable(item, id);
    return item;
  }

  /** @param {HTMLElement} item @param {string} id */
  makeMovable(item, id) {
    item.draggable = true;
    item.ondragstart = (event) => {
      this.dragged = id;
      event.dataTransfer?.setData("text/plain", this.tab(id).title);
    };
    item.ondragover = (event) => {
      if (!this.dragged) return;
      event.preventDefault();
      item.classList.toggle("is-goal", this.dragged !== id);
    };
    item.ondragleave = () => item.classList.remove("is-goal");
    item.ondragend = () => (this.dragged = "");
    item.ondrop = (event) => {
      event.preventDefault();
      item.classList.remove("is-goal");
      if (this.dragged && this.dragged !== id) this.asks.move(this.dragged, this.place(id));
    };
    let goal = "";
    const mark = (/** @type {string} */ to) => {
      goal = to;
      for (const one of this.strip.children) {
        one.classList.toggle("is-goal", one instanceof HTMLElement && one.dataset.id === to && to !== id);
      }
    };
    liftable(
      item,
      (x, y) => mark(document.elementFromPoint(x, y)?.closest(".tab")?.getAttribute("data-id") ?? ""),
      () => {
        if (goal && goal !== id) this.asks.move(id, this.place(goal));
        mark("");
      },
    );
  }

  /** @param {HTMLElement} item @param {Tab} tab */
  fill(item, tab) {
    const isChosen = tab.id === this.chosen;
    const button = /** @type {HTMLElement} */ (item.querySelector("[role=tab]"));
    const moved = ["is-lifted", "is-goal"].filter((name) => item.classList.contains(name));
    item.className = `tab is-${tab.state}${tab.talk ? " is-talk" : ""}${isChosen ? " is-chosen" : ""}`;
    item.classList.add(...moved);
    button.setAttribute("aria-selected", String(isChosen));
    button.tabIndex = isChosen ? 0 : -1;
    button.title = this.mayChange(tab) ? `${tab.title}: double click or F2 renames, Ctrl Shift ← → moves` : tab.title;
    set(button.querySelector(".tab-title"), tab.title);
    set(button.querySelector(".tab-state"), words(tab));
    item.querySelector(".tab-close")?.setAttribute("aria-label", `Close ${tab.title}`);
  }

  /** @param {string} id */
  place(id) {
    return this.tabs.findIndex((tab) => tab.id === id);
  }

  /** @param {string} id */
  tab(id) {
    return this.tabs[this.place(id)];
  }

  /** @param {Tab} tab */
  mayChange(tab) {
    return this.writes && tab.talk !== "own" && tab.talk !== "new";
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.target instanceof HTMLInputElement) return;
    const at = this.place(this.chosen);
    if (at < 0) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? this.tabs.length - 1 : step ? at + step : -1;
    const mayChange = this.mayChange(this.tab(this.chosen));
    if (event.key === "F2" && mayChange) this.edit(this.chosen);
    else if (event.key === "Delete" && mayChange) this.asks.close(this.tab(this.chosen));
    else if (to < 0 || to >= this.tabs.length) return;
    else if (event.ctrlKey && event.shiftKey && mayChange) this.asks.move(this.chosen, to);
    else {
      this.asks.choose(this.tabs[to].id);
      document.getElementById(`tab-${this.tabs[to].id}`)?.focus();
    }
    event.preventDefault();
  }

  /** @param {string} id */
  edit(id) {
    const button = document.getElementById(`tab-${id}`);
    if (!button) return;
    const box = document.createElement("input");
    box.type = "text";
    box.className = "tab-name";
    box.maxLength = 60;
    box.value = this.tab(id).title;
    box.setAttribute("aria-label", this.tab(id).talk ? "Name of the chat" : "Name of the terminal");
    let isOver = false;
    const done = (/** @type {boolean} */ keep) => {
      if (isOver) return;
      isOver = true;
      const title = box.value.trim();
      box.replaceWith(button);
      button.focus();
      if (keep && title && title !== this.tab(id)?.title) this.asks.rename(id, title);
      this.show(this.tabs, this.chosen);
    };
    box.onblur = () => done(true);
    box.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // or Enter would press the tab, too
      done(event.key === "Enter");
    };
    button.replaceWith(box);
    box.select();
  }
}

/** @param {Element | null} element @param {string} text */
function set(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** @param {Tab} tab */
function words(tab) {
  const said = { waiting: "waits", opening: "opening", closing: "closing", starting: "starts", asking: "asks you", ending: "ends", ended: "ended" }[tab.state];
  if (said) return said;
  if (tab.state !== "exited") return "";
  if (tab.exit_code === null) return "ended";
  return tab.exit_code < 0 ? `signal ${-tab.exit_code}` : `exit ${tab.exit_code}`;
}
