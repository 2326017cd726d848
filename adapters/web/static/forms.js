// @ts-check
/** Forms are sent without leaving the page; Enter sends; what was not sent is kept. */

export function forms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.hasAttribute("data-live")) return;
    event.preventDefault();
    void send(form, event.submitter);
  });
  document.addEventListener("keydown", (event) => {
    const box = event.target;
    if (!(box instanceof HTMLTextAreaElement) || !box.hasAttribute("data-enter")) return;
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    const main = box.form?.querySelector("button.main");
    if (main instanceof HTMLElement) box.form?.requestSubmit(main);
  });
  for (const form of document.querySelectorAll("form[data-draft]")) {
    if (form instanceof HTMLFormElement) keep(form);
  }
}

/** @param {HTMLFormElement} form @param {HTMLElement | null} submitter */
async function send(form, submitter) {
  if (form.classList.contains("is-away")) return;
  const body = new URLSearchParams();
  for (const [name, value] of new FormData(form, submitter)) body.append(name, String(value));
  const { draft } = form.dataset;
  if (draft) body.set("key", keyOf(draft, body.get("text") ?? ""));
  form.classList.add("is-away");
  try {
    const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    const told = await answer.json();
    if (answer.status === 401) return location.reload();
    if (!answer.ok) return remark(told.detail ?? "That did not work.");
    if (told.said) remark(told.said);
    if (draft) sent(form, draft);
    if (told.to) location.assign(told.to);
  } catch {
    remark("Samovar does not answer. What you wrote is still here.");
  } finally {
    form.classList.remove("is-away");
  }
}

/** @param {HTMLFormElement} form @param {string} draft */
function sent(form, draft) {
  const box = form.querySelector("textarea");
  if (!box) return;
  box.value = "";
  sessionStorage.removeItem(`draft:${draft}`);
  sessionStorage.removeItem(`sent:${draft}`);
  box.focus();
}

/**
 * Under which delivery id words are sent. The same words are sent under the same one until they have arrived for
 * certain, also after the page went away in between; so they count once.
 * @param {string} draft @param {string} text
 */
function keyOf(draft, text) {
  const name = `sent:${draft}`;
  const [before, key] = JSON.parse(sessionStorage.getItem(name) ?? "[]");
  if (before === text) return key;
  const fresh = newKey();
  sessionStorage.setItem(name, JSON.stringify([text, fresh]));
  return fresh;
}

/** A new delivery id; `crypto.randomUUID` is missing where the page is not https. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");
}

/** @param {HTMLFormElement} form */
function keep(form) {
  const box = form.querySelector("textarea");
  if (!box) return;
  const name = `draft:${form.dataset.draft}`;
  if (!box.value.trim()) box.value = sessionStorage.getItem(name) ?? "";
  box.addEventListener("input", () => sessionStorage.setItem(name, box.value));
}

let leaving = 0;

/** @param {string} text */
function remark(text) {
  const place = document.getElementById("remark");
  if (!place) return;
  place.textContent = text;
  place.hidden = false;
  clearTimeout(leaving);
  leaving = window.setTimeout(() => (place.hidden = true), 6000);
}
