// @ts-check
/** Frames between a viewer and a terminal: what `core/viewing.py` says, from the viewer's side. */

const NOTHING = 0xffff_ffff_ffff_ffffn;
const CODER = new TextEncoder();
const DECODER = new TextDecoder();
export const INPUT_BYTES_MAX = 32 * 1024; // half of what is allowed: a paste comes in pieces
export const BEAT_MS = 10_000;
export const SEEN_BYTES = 32 * 1024;
export const SEEN_MS = 500;
export const MISSING = 4404;
export const SILENT = 4408;

/**
 * @typedef {{columns: number, rows: number}} Size
 * @typedef {{name: string, writes: boolean, isActive: boolean}} Viewer
 * @typedef {{kind: "output", offset: number, data: Uint8Array}
 *   | {kind: "paint", offset: number, size: Size, data: Uint8Array}
 *   | {kind: "resized", size: Size}
 *   | {kind: "viewers", viewers: Viewer[]}
 *   | {kind: "exited", code: number | null}
 *   | {kind: "beat"}} Frame
 */

/** @param {string} tag @param {number} length @returns {[Uint8Array<ArrayBuffer>, DataView]} */
function blank(tag, length) {
  const bytes = new Uint8Array(1 + length);
  bytes[0] = tag.charCodeAt(0);
  return [bytes, new DataView(bytes.buffer)];
}

/** @param {Size} size @param {number | null} seen */
export function look(size, seen) {
  const [bytes, view] = blank("L", 12);
  view.setBigUint64(1, seen === null ? NOTHING : BigInt(seen));
  view.setUint16(9, size.columns);
  view.setUint16(11, size.rows);
  return bytes;
}

/** @param {Uint8Array} data */
export function input(data) {
  const [bytes] = blank("I", data.length);
  bytes.set(data, 1);
  return bytes;
}

/** @param {number} offset */
export function seen(offset) {
  const [bytes, view] = blank("S", 8);
  view.setBigUint64(1, BigInt(offset));
  return bytes;
}

/** @param {Size} size */
export function fit(size) {
  const [bytes, view] = blank("F", 4);
  view.setUint16(1, size.columns);
  view.setUint16(3, size.rows);
  return bytes;
}

export function beat() {
  return blank("B", 0)[0];
}

/** @param {string} text */
export function utf8(text) {
  return CODER.encode(text);
}

/** What old mouse reports hold: one byte a character. @param {string} text */
export function raw(text) {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0) & 0xff);
}

/** @param {ArrayBuffer} message @returns {Frame} */
export function read(message) {
  const view = new DataView(message);
  const size = (/** @type {number} */ at) => ({ columns: view.getUint16(at), rows: view.getUint16(at + 2) });
  switch (String.fromCharCode(view.getUint8(0))) {
    case "O":
      return { kind: "output", offset: Number(view.getBigUint64(1)), data: new Uint8Array(message, 9) };
    case "P":
      return { kind: "paint", offset: Number(view.getBigUint64(1)), size: size(9), data: new Uint8Array(message, 13) };
    case "R":
      return { kind: "resized", size: size(1) };
    case "V": {
      /** @type {[string, boolean, boolean][]} */
      const rows = JSON.parse(DECODER.decode(new Uint8Array(message, 1)));
      return { kind: "viewers", viewers: rows.map(([name, writes, isActive]) => ({ name, writes, isActive })) };
    }
    case "X":
      return { kind: "exited", code: message.byteLength > 1 ? view.getInt32(1) : null };
    case "B":
      return { kind: "beat" };
    default:
      throw new Error("no frame");
  }
}
