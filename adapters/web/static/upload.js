// @ts-check
/** Files are sent into the folder that is shown: chosen or dropped, one after the other. */

/** @param {HTMLElement} form the element whose `data-upload` is the folder's address */
export function upload(form) {
  const to = form.dataset.upload ?? "";
  const most = Number(form.dataset.most);
  const names = new Set(JSON.parse(form.dataset.names ?? "[]"));
  const list = /** @type {HTMLElement} */ (form.querySelector("ul"));
  const input = /** @type {HTMLInputElement} */ (form.querySelector("input[type=file]"));
  let sending = Promise.resolve();
  form.hidden = false;
  input.addEventListener("change", () => take(input.files));
  form.querySelector("[data-reload]")?.addEventListener("click", () => location.reload());

  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer?.files);
  });

  /** @param {FileList | null | undefined} files */
  function take(files) {
    for (const file of files ?? []) {
      const item = list.appendChild(document.createElement("li"));
      sending = sending.then(() => one(file, item));
    }
    input.value = "";
  }

  /** @param {File} file @param {HTMLElement} item */
  async function one(file, item) {
    const name = encoded(file.name);
    if (file.size > most) return say(item, file, `is larger than ${most >> 30} GB, the most that is taken.`, true);
    const replaces = names.has(name) && confirm(`${file.name} is there already. Replace it?`);
    if (names.has(name) && !replaces) return say(item, file, "was left as it is.", false);
    let answer = await send(file, item, name, replaces);
    if (answer.title === "file_exists" && confirm(`${file.name} is there already. Replace it?`)) {
      answer = await send(file, item, name, true);
    }
    if (answer.status !== 204) return say(item, file, answer.detail, true);
    names.add(name);
    say(item, file, "is there.", false);
    const reload = form.querySelector("[data-reload]");
    if (reload instanceof HTMLElement) reload.hidden = false;
  }

  /**
   * @param {File} file @param {HTMLElement} item @param {string} name @param {boolean} replaces
   * @returns {Promise<{status: number, title: string, detail: string}>}
   */
  function send(file, item, name, replaces) {
    const bar = document.createElement("progress");
    const stop = document.createElement("button");
    bar.max = Math.max(1, file.size);
    bar.value = 0;
    stop.textContent = "Stop";
    item.replaceChildren(`${file.name} `, bar, " ", stop);
    return new Promise((done) => {
      const request = new XMLHttpRequest(); // fetch tells nothing of what was sent so far
      const end = () => done(told(request));
      request.upload.onprogress = (event) => (bar.value = event.loaded);
      request.onload = request.onerror = end;
      request.onabort = () => done({ status: 0, title: "", detail: "was stopped; nothing was written." });
      stop.onclick = () => request.abort();
      request.open("PUT", `${to}${encodeURIComponent(name)}${replaces ? "?replaces=true" : ""}`);
      request.setRequestHeader("Accept", "application/json");
      request.send(file);
    });
  }
}

/** @param {XMLHttpRequest} request */
function told(request) {
  let said = { title: "", detail: "was not sent: Samovar does not answer. Send it again." };
  try {
    said = JSON.parse(request.responseText);
  } catch {
    // no answer, or one without words
  }
  return { status: request.status, title: said.title, detail: said.detail };
}

/** @param {HTMLElement} item @param {File} file @param {string} words @param {boolean} isBad */
function say(item, file, words, isBad) {
  item.replaceChildren(`${file.name} ${words.startsWith(file.name) ? words.slice(file.name.length + 1) : words}`);
  item.classList.toggle("bad-note", isBad);
}

/** A name as our paths have it: only letters, digits and `_.-~` are themselves. @param {string} name */
function encoded(name) {
  return encodeURIComponent(name).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
