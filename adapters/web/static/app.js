// @ts-check
/** What every page does where scripts run. Without them all of it works by links and forms. */
import { clocks } from "./clock.js";
import { forms } from "./forms.js";
import { live, fold, insert } from "./live.js";
import { ports } from "./ports.js";
import { upload } from "./upload.js";

clocks();
forms();
for (const list of document.querySelectorAll("[data-live-src]")) {
  if (list instanceof HTMLElement) live(list);
}
for (const list of document.querySelectorAll("[data-ports]")) {
  if (list instanceof HTMLElement) ports(list);
}
for (const form of document.querySelectorAll("[data-upload]")) {
  if (form instanceof HTMLElement) upload(form);
}

document.addEventListener("click", async (event) => {
  const link = event.target instanceof Element ? event.target.closest("a[data-earlier]") : null;
  const list = document.getElementById("stream");
  if (!(link instanceof HTMLAnchorElement) || !list || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const answer = await fetch(link.href);
  if (!answer.ok) return location.assign(link.href);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const height = document.documentElement.scrollHeight;
  for (const item of [...page.querySelectorAll("#stream > li")]) {
    if (item instanceof HTMLElement) insert(list, item);
  }
  fold(list);
  const next = page.querySelector("a[data-earlier]");
  if (next instanceof HTMLAnchorElement) link.href = next.href;
  else link.parentElement?.remove();
  scrollBy(0, document.documentElement.scrollHeight - height);
});
