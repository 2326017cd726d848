// @ts-check
/** Ports of a workspace come and go: the list of what listens is asked for while somebody looks. */

const EVERY_MS = 5_000;

/** @param {HTMLElement} list the element whose `data-ports` names where to ask */
export function ports(list) {
  async function look() {
    if (document.hidden || list.contains(document.activeElement)) return;
    try {
      const answer = await fetch(list.dataset.ports ?? "");
      if (!answer.ok) return;
      const html = await answer.text();
      if (html !== list.dataset.shown) list.innerHTML = list.dataset.shown = html;
    } catch {
      return; // asked again soon
    }
  }
  void look();
  setInterval(look, EVERY_MS);
}
