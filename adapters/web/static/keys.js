// @ts-check
/** Keys that a phone's keyboard has not, and the room that it leaves. */

const PLAIN = { escape: "\x1b", tab: "\t", bar: "|", slash: "/", tilde: "~" };
const ARROWS = { up: "A", down: "B", right: "C", left: "D" };

export class Keys {
  /**
   * @param {HTMLElement} bar
   * @param {() => import("./screen.js").Screen | undefined} screen the one that is shown
   * @param {() => void} paste
   */
  constructor(bar, screen, paste) {
    this.bar = bar;
    this.screen = screen;
    this.paste = paste;
    this.hasControl = false;
    // Not on click: a press must not take the focus, or the phone's keyboard goes away.
    bar.addEventListener("pointerdown", (event) => event.preventDefault());
    bar.addEventListener("click", (event) => {
      const key = event.target instanceof Element ? event.target.closest("button")?.dataset.key : "";
      if (key) this.press(key);
    });
  }

  /** @param {string} key */
  press(key) {
    const screen = this.screen();
    if (!screen) return;
    screen.term.focus();
    if (key === "control") return this.control(!this.hasControl);
    if (key === "paste") return this.paste();
    const isApplication = screen.term.modes.applicationCursorKeysMode;
    const letter = ARROWS[/** @type {keyof ARROWS} */ (key)];
    const arrow = this.hasControl ? `\x1b[1;5${letter}` : `\x1b${isApplication ? "O" : "["}${letter}`;
    screen.term.input(letter ? arrow : PLAIN[/** @type {keyof PLAIN} */ (key)], true);
    this.control(false);
  }

  /** @param {boolean} is */
  control(is) {
    this.hasControl = is;
    this.bar.querySelector("[data-key=control]")?.setAttribute("aria-pressed", String(is));
  }

  /** What is typed after Ctrl was pressed. @param {string} text */
  modified(text) {
    if (!this.hasControl || text.length !== 1) return text;
    this.control(false);
    const code = text.toUpperCase().charCodeAt(0);
    return code >= 0x40 && code <= 0x5f ? String.fromCharCode(code & 0x1f) : text;
  }
}

/** The page is as high as what the keyboard leaves of the screen, and where that is. */
export function keepAboveKeyboard() {
  const screen = window.visualViewport;
  if (!screen) return;
  const measure = () => {
    if (screen.scale > 1.01) return; // somebody looks closely
    document.body.style.setProperty("--height", `${screen.height}px`);
    document.body.style.setProperty("--top", `${screen.offsetTop}px`);
  };
  screen.addEventListener("resize", measure);
  screen.addEventListener("scroll", measure);
  measure();
}
