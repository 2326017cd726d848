// @ts-check
/** One viewer's connection to a terminal. It comes back by itself, from where it was. */
import { BEAT_MS, MISSING, SILENT, beat, look, read } from "./frames.js";

const WAIT_MS_MIN = 250;
const WAIT_MS_MAX = 10_000;

/**
 * @typedef {{is: "opening"} | {is: "up"} | {is: "waiting", until: number} | {is: "over", why: string}} State
 * @typedef {object} Ends
 * @property {() => import("./frames.js").Size} size what fits on the screen now
 * @property {() => number | null} seen up to where all is there; null for nothing
 * @property {(frame: import("./frames.js").Frame) => void} took
 * @property {(state: State) => void} became
 */

export class Line {
  /** @param {URL} url @param {Ends} ends */
  constructor(url, ends) {
    this.url = url;
    this.ends = ends;
    /** @type {State} */ this.state = { is: "opening" };
    /** @type {WebSocket | null} */ this.socket = null;
    this.waitMs = WAIT_MS_MIN;
    this.heard = 0;
    this.retry = 0;
    this.beats = 0;
    this.wake = () => this.state.is === "waiting" && !document.hidden && this.dial();
    addEventListener("online", this.wake);
    document.addEventListener("visibilitychange", this.wake);
  }

  get isUp() {
    return this.state.is === "up";
  }

  dial() {
    clearTimeout(this.retry);
    this.drop();
    const socket = (this.socket = new WebSocket(this.url));
    socket.binaryType = "arraybuffer";
    if (this.state.is !== "waiting") this.become({ is: "opening" });
    this.heard = performance.now();
    this.beats = window.setInterval(() => this.beat(), BEAT_MS);
    socket.onopen = () => socket.send(look(this.ends.size(), this.ends.seen()));
    socket.onmessage = (event) => this.hear(event.data);
    socket.onclose = (event) => this.lost(event.code, event.reason);
  }

  /** @param {ArrayBuffer} message */
  hear(message) {
    this.heard = performance.now();
    if (!this.isUp) {
      this.waitMs = WAIT_MS_MIN;
      this.become({ is: "up" });
    }
    this.ends.took(read(message));
  }

  /** @param {Uint8Array<ArrayBuffer>} frame @returns {boolean} whether it was given to the connection */
  send(frame) {
    if (!this.isUp || this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(frame);
    return true;
  }

  beat() {
    if (performance.now() - this.heard > 2.5 * BEAT_MS) return this.lost(SILENT, "");
    this.send(beat());
  }

  /** @param {number} code @param {string} reason */
  lost(code, reason) {
    this.drop();
    if (code === MISSING) return this.end(reason || "This terminal is not here any more.");
    const waitMs = this.waitMs * (0.75 + Math.random() / 2);
    this.waitMs = Math.min(this.waitMs * 2, WAIT_MS_MAX);
    this.become({ is: "waiting", until: performance.now() + waitMs });
    if (code === SILENT && document.hidden) return; // its clock is slowed down: come back with it
    this.retry = window.setTimeout(() => this.dial(), waitMs);
  }

  /** No more, and no way back. @param {string} why */
  end(why) {
    clearTimeout(this.retry);
    this.drop();
    removeEventListener("online", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
    this.become({ is: "over", why });
  }

  drop() {
    clearInterval(this.beats);
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /** @param {State} state */
  become(state) {
    this.state = state;
    this.ends.became(state);
  }
}
