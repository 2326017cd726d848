// @ts-check
/** Conversations beside the terminals: one frame, which shows the chosen one. */

/**
 * @typedef {{id: string, title: string, state: string, is_own: boolean, error: string}} Talk
 * @typedef {object} Around what the page around a conversation does
 * @property {(id: string) => void} opened a chat was opened in the frame
 * @property {() => void} leave the keyboard wants to get out
 */

export const NEW = "new";

/** @param {Talk} talk @returns {import("./tabs.js").Tab} */
export function tabOf(talk) {
  return { id: talk.id, title: talk.title, state: talk.state, exit_code: null, error: talk.error, talk: talk.is_own ? "own" : "chat" };
}

/** @returns {import("./tabs.js").Tab} */
export function newTab() {
  return { id: NEW, title: "New chat", state: "idle", exit_code: null, error: "", talk: "new" };
}

export class Talks {
  /** @param {HTMLElement} place @param {Around} around */
  constructor(place, around) {
    this.place = place;
    this.around = around;
    this.shown = "";
    /** @type {HTMLIFrameElement | null} */ this.frame = null;
  }

  /** A frame that nobody sees would keep its stream open, and browsers have six a host. @param {string} id or "" */
  show(id) {
    if (id === this.shown) return;
    this.shown = id;
    this.frame?.remove();
    this.frame = null;
    if (!id) return;
    const frame = document.createElement("iframe");
    frame.className = "talk-frame is-loading"; // until its scripts hear what is typed
    frame.id = `panel-${id}`;
    frame.title = "Conversation";
    frame.src = `/chats/${encodeURIComponent(id)}`;
    frame.onload = () => this.loaded(frame);
    this.frame = frame;
    this.place.append(frame);
  }

  /** @param {HTMLIFrameElement} frame */
  loaded(frame) {
    const page = frame.contentDocument;
    if (!page || frame !== this.frame) return;
    frame.classList.remove("is-loading");
    frame.contentWindow?.addEventListener("pagehide", () => frame.classList.add("is-loading"));
    const id = decodeURIComponent(page.location.pathname.split("/")[2] ?? "");
    page.addEventListener("keydown", (event) => {
      if (!event.ctrlKey || event.key !== "F6") return;
      event.preventDefault();
      this.around.leave();
    });
    if (id && id !== this.shown) {
      this.shown = id;
      frame.id = `panel-${id}`;
      this.around.opened(id);
    }
    this.focus();
  }

  /** On a phone that would bring up the keyboard. */
  focus() {
    if (matchMedia("(pointer: coarse)").matches) return;
    this.frame?.contentDocument?.getElementById("text")?.focus({ preventScroll: true });
  }
}
