// @ts-check
/** One terminal on this page: xterm.js at one end, the connection at the other. */
import { FitAddon } from "./xterm/addon-fit.mjs";
import { SearchAddon } from "./xterm/addon-search.mjs";
import { UnicodeGraphemesAddon } from "./xterm/addon-unicode-graphemes.mjs";
import { WebLinksAddon } from "./xterm/addon-web-links.mjs";
import { Terminal } from "./xterm/xterm.mjs";
import { INPUT_BYTES_MAX, SEEN_BYTES, SEEN_MS, fit, input, raw, seen, utf8 } from "./frames.js";
import { Line } from "./line.js";
import { answerOnlyIf } from "./queries.js";
import { theme } from "./theme.js";

const COLUMNS_MAX = 1000;
const ROWS_MAX = 500;
const LINES_KEPT = 10_000;
const LINK = /https:\/\/[^\s"'<>`{}|\\^]+[^\s"'<>`{}|\\^.,:;!?()[\]]/;
const PASTE_END = /(?:\x1b\[|\x9b)201~/g; // would end a paste early, and the rest would be typed

/**
 * @typedef {object} Page
 * @property {boolean} writes whether the person may type
 * @property {string} person
 * @property {() => void} changed something that the page shows
 * @property {(why: string) => void} refuse say why a key did nothing
 * @property {(url: string, isHidden: boolean) => void} visit
 * @property {(text: string) => string} modified what is typed, with a modifier that was pressed before
 * @property {(event: KeyboardEvent) => boolean} shortcut whether a key is the page's own
 */

export class Screen {
  /** @param {HTMLElement} panel @param {URL} url @param {Page} page */
  constructor(panel, url, page) {
    this.panel = panel;
    this.page = page;
    /** @type {import("./frames.js").Viewer[]} */ this.viewers = [];
    /** @type {import("./frames.js").Frame[]} */ this.queue = [];
    /** @type {number | null} */ this.taken = null;
    /** @type {number | null | undefined} */ this.exitCode = undefined;
    this.drawn = this.said = this.saying = 0;
    this.isDrawing = false;
    this.isPainting = false;
    this.term = this.makeTerminal();
    this.line = new Line(url, {
      size: () => this.fits(),
      seen: () => this.taken,
      took: (frame) => this.take(frame),
      became: () => page.changed(),
    });
    new ResizeObserver(() => this.resize()).observe(panel);
    this.line.dial();
  }

  makeTerminal() {
    const term = new Terminal({
      allowProposedApi: true, // tables of Unicode, and marks of what was found
      cursorBlink: false,
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
      fontSize: 14,
      lineHeight: 1.15,
      linkHandler: { activate: (_event, url) => this.page.visit(url, true) }, // its words may be any
      macOptionClickForcesSelection: true,
      minimumContrastRatio: 4.5,
      scrollback: LINES_KEPT,
      theme: theme(),
    });
    this.fitter = new FitAddon();
    this.search = new SearchAddon();
    term.loadAddon(this.fitter);
    term.loadAddon(this.search);
    term.loadAddon(new UnicodeGraphemesAddon());
    term.unicode.activeVersion = "15"; // widths as shells and editors count them: by character
    term.loadAddon(new WebLinksAddon((_event, url) => this.page.visit(url, false), { urlRegex: LINK }));
    term.onData((text) => this.type(utf8(this.page.modified(text))));
    term.onBinary((text) => this.type(raw(text)));
    term.attachCustomKeyEventHandler((event) => !this.page.shortcut(event));
    answerOnlyIf(term, () => this.answers);
    this.panel.addEventListener("paste", (event) => this.pasted(event), { capture: true });
    term.open(this.panel);
    Object.assign(this.panel, { terminal: term }); // for whoever looks at it from the console
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (term.options.theme = theme()));
    return term;
  }

  /** Programs ask terminals what they are. One of those who look answers: whose size it is. */
  get answers() {
    if (this.isPainting || !this.page.writes || !this.line.isUp) return false;
    const mine = this.viewers.filter((viewer) => viewer.name === this.page.person);
    const isMine = mine.some((viewer) => viewer.isActive);
    return this.viewers.length < 2 || (isMine && (mine.length === 1 || document.hasFocus()));
  }

  /** What fits here. A panel that is not shown has no size, so what it has stays. */
  fits() {
    const found = this.panel.hidden ? undefined : this.fitter.proposeDimensions();
    const { cols, rows } = found && found.cols > 0 && found.rows > 0 ? found : this.term;
    return { columns: Math.min(cols, COLUMNS_MAX), rows: Math.min(rows, ROWS_MAX) };
  }

  resize() {
    if (this.panel.hidden) return;
    cancelAnimationFrame(this.resizing ?? 0);
    this.resizing = requestAnimationFrame(() => {
      const size = this.fits();
      const last = this.told;
      if (last?.columns === size.columns && last.rows === size.rows) return;
      if (this.line.send(fit(size))) this.told = size;
    });
  }

  /** The window came to the front, or this tab: the size is ours now. */
  claim() {
    if (this.panel.hidden || !this.line.send(fit(this.fits()))) return;
    this.told = this.fits();
  }

  /** @param {Uint8Array<ArrayBuffer>} data */
  type(data) {
    const why = this.whyNot();
    if (why) return this.page.refuse(why);
    for (let at = 0; at < data.length; at += INPUT_BYTES_MAX) {
      this.line.send(input(data.subarray(at, at + INPUT_BYTES_MAX)));
    }
  }

  whyNot() {
    if (this.exitCode !== undefined) return "The shell has ended. Open a new terminal.";
    if (this.line.state.is === "over") return this.line.state.why;
    if (!this.line.isUp) return "Not connected: what you type now is not sent.";
    return this.page.writes ? "" : "You look only: your role may not type.";
  }

  /** @param {string} text */
  paste(text) {
    this.term.paste(text.replace(PASTE_END, ""));
    this.term.focus();
  }

  /** @param {ClipboardEvent} event */
  pasted(event) {
    event.preventDefault();
    event.stopPropagation();
    this.paste(event.clipboardData?.getData("text/plain") ?? "");
  }

  /** @param {import("./frames.js").Frame} frame */
  take(frame) {
    if (frame.kind === "beat") return;
    if (frame.kind === "viewers") {
      this.viewers = frame.viewers;
      return this.page.changed();
    }
    if (frame.kind === "output") {
      const fresh = this.fresh(frame);
      if (!fresh) return;
      frame = fresh;
      this.taken = frame.offset + frame.data.length;
    }
    if (frame.kind === "paint") this.taken = frame.offset;
    this.queue.push(frame);
    if (!this.isDrawing) void this.draw();
  }

  /**
   * What of this was not taken yet. After a gap, which there must not be, all is painted anew.
   * @param {{kind: "output", offset: number, data: Uint8Array}} frame
   */
  fresh(frame) {
    const known = (this.taken ?? 0) - frame.offset;
    if (this.taken === null || known < 0) {
      this.taken = null;
      this.line.lost(0, "");
      return null;
    }
    if (known >= frame.data.length) return null;
    return known ? { ...frame, offset: frame.offset + known, data: frame.data.subarray(known) } : frame;
  }

  /** Draw what came, in order: a size holds from between two pieces of output on. */
  async draw() {
    this.isDrawing = true;
    for (let frame = this.queue.shift(); frame; frame = this.queue.shift()) {
      if (frame.kind === "output") await this.write(frame.data, frame.offset + frame.data.length);
      else if (frame.kind === "paint") await this.paint(frame);
      else if (frame.kind === "resized") this.term.resize(frame.size.columns, frame.size.rows);
      else if (frame.kind === "exited") await this.ended(frame.code);
      if (frame.kind === "resized") this.page.changed();
    }
    this.isDrawing = false;
  }

  /** @param {{offset: number, size: import("./frames.js").Size, data: Uint8Array}} frame */
  async paint(frame) {
    this.isPainting = true;
    this.term.reset();
    this.term.resize(frame.size.columns, frame.size.rows);
    await this.write(frame.data, frame.offset);
    this.isPainting = false;
  }

  /** Several pieces that wait are drawn at once. @param {Uint8Array} data @param {number} end */
  async write(data, end) {
    let last = end;
    if (!this.isPainting) {
      for (let next = this.queue[0]; next?.kind === "output"; next = this.queue[0]) {
        const before = last;
        this.term.write(data, () => this.drew(before));
        this.queue.shift();
        data = next.data;
        last = next.offset + next.data.length;
      }
    }
    await new Promise((resolve) => this.term.write(data, () => resolve(this.drew(last))));
  }

  /** What is drawn is said at once after much, else soon: no message follows each key's echo. @param {number} offset */
  drew(offset) {
    this.drawn = offset;
    if (offset - this.said >= SEEN_BYTES) this.say();
    else this.saying ||= window.setTimeout(() => this.say(), SEEN_MS);
  }

  say() {
    clearTimeout(this.saying);
    this.saying = 0;
    if (this.line.send(seen(this.drawn))) this.said = this.drawn;
  }

  /** @param {number | null} code */
  async ended(code) {
    this.exitCode = code;
    const how = exitWords(code);
    await new Promise((resolve) => this.term.write(`\r\n\x1b[0;2m[The shell ended${how && `: ${how}`}]\x1b[0m\x1b[?25l`, () => resolve(0)));
    this.line.end("The shell has ended.");
  }

  close() {
    this.line.end("This tab is closed.");
    this.term.dispose();
    this.panel.remove();
  }
}

/** @param {number | null} code of a shell; minus a signal's number */
export function exitWords(code) {
  if (code === null) return "";
  return code < 0 ? `killed by signal ${-code}` : `exit code ${code}`;
}
