// @ts-check
/** Conversations beside the terminals: one frame, which shows the chosen one. */

/**
 * @typedef {{id: string, title: string, state: string, is_own: boolean, error: string}} Talk
 * @typedef {object} Around what the page around a conversation does
 * @property {(id: string) => void} opened a chat was opened in the frame
 * @property {() => void} changed the conversation was reached, or is out of reach
 * @property {() => void} leave the keyboard wants to get out
 */

export const NEW = "new";
const RETRY_MS = 3000;

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
    this.isLost = false;
    /** @type {HTMLElement | null} */ this.panel = null;
    /** @type {HTMLIFrameElement | null} */ this.frame = null;
  }

  /** A frame that nobody sees would keep its stream open, and browsers have six a host. @param {string} id or "" */
  show(id) {
    if (id === this.shown) return;
    this.shown = id;
    this.isLost = false;
    this.panel?.remove();
    this.panel = this.frame = null;
    if (!id) return;
    const panel = document.createElement("section");
    panel.setAttribute("role", "tabpanel");
    const frame = document.createElement("iframe");
    frame.className = "talk-frame is-loading"; // until its scripts hear what is typed
    frame.title = "Conversation";
    frame.src = `/chats/${encodeURIComponent(id)}`;
    frame.onload = () => this.loaded(frame);
    panel.append(frame);
    this.panel = panel;
    this.frame = frame;
    this.name(id);
    this.place.append(panel);
  }

  /** Say whose panel it is. @param {string} id */
  name(id) {
    this.panel?.setAttribute("id", `panel-${id}`);
    this.panel?.setAttribute("aria-labelledby", `tab-${id}`);
  }

  /** A page of the browser's own, which we cannot see, says that ours did not come. @param {HTMLIFrameElement} frame */
  loaded(frame) {
    if (frame !== this.frame) return;
    const page = frame.contentDocument;
    this.isLost = !page;
    this.around.changed();
    if (!page) return void setTimeout(() => frame.contentWindow?.location.replace(frame.src), RETRY_MS);
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
      this.name(id);
      this.around.opened(id);
    }
    if ([document.body, frame].includes(/** @type {HTMLElement} */ (document.activeElement))) this.focus();
  }

  /**
   * Bring the keyboard to the box; before that is there, away from what has it. Whatever takes it until then keeps it.
   * On a phone that would bring up the keys.
   */
  focus() {
    if (matchMedia("(pointer: coarse)").matches) return;
    const box = this.frame?.contentDocument?.getElementById("text");
    if (box) box.focus({ preventScroll: true });
    else if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  }
}
