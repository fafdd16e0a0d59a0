// The documents that answers come from: upload, progress, what could not be read, deletion.

import { get, remove, upload } from "./api.js";
import { $, button, element, forget, keep, recall, tell } from "./dom.js";
import { problem } from "./problems.js";
import { Watch } from "./watch.js";

const READING = "tidelog.reading"; // the run of the last upload: a reload goes on to show it

export class Documents {
  #say;
  #changed;
  #found = null;
  #watch = null;
  #told = () => ""; // what the status line says, in the language of the day
  #unread = [];
  #begin;
  #order = new Promise((begin) => (this.#begin = begin)); // one upload after the other, once it is known what may be uploaded

  /** `changed()` when there are other documents than before. */
  constructor({ say, changed }) {
    this.#say = say;
    this.#changed = changed;
    $("upload").addEventListener("click", () => $("files").click());
    $("files").addEventListener("change", () => {
      this.add([...$("files").files]);
      $("files").value = "";
    });
    acceptDrops((files) => this.add(files));
  }

  async start() {
    await this.#list();
    const run = recall("sessionStorage", READING);
    this.#begin(run && this.#found ? this.#follow(run) : null);
  }

  speak(say) {
    this.#say = say;
    this.#show();
  }

  /** Upload these files, when the uploads before them are through. */
  add(files) {
    if (files.length) this.#order = this.#order.then(() => this.#found && this.#send(files));
  }

  async #send(files) {
    this.#unread = [];
    const over = this.#over(files);
    if (over) return this.#tell(over);
    this.#tell(() => this.#say("uploading", files.length));
    try {
      const run = await upload(files);
      keep("sessionStorage", READING, run);
      await this.#follow(run);
    } catch (error) {
      const limits = () => this.#say("limits", this.#found.limits);
      this.#tell(() => (error.status === 413 ? `${this.#say("too_large")} ${limits()}` : problem(error, this.#say)));
    }
  }

  /** Why these files cannot be sent: asked before megabytes are on their way. */
  #over(files) {
    const { limits } = this.#found;
    const big = files.find((file) => file.size > limits.file_bytes);
    const total = files.reduce((sum, file) => sum + file.size, 0);
    if (big) return () => `${this.#say("file_too_large", big.name, size(big.size))} ${this.#say("limits", limits)}`;
    if (total > limits.total_bytes || files.length > limits.files) return () => `${this.#say("too_large")} ${this.#say("limits", limits)}`;
    return null;
  }

  async #follow(run) {
    this.#watch = new Watch(run, { changed: (state) => this.#progress(state), linked: (live, refused) => this.#linked(live, refused) });
    await this.#watch.follow();
    const { outcome, data, error } = this.#watch.state;
    this.#watch = null;
    forget("sessionStorage", READING);
    $("progress").hidden = true;
    if (outcome === null) return; // refused: told already
    this.#unread = data.indexed?.skipped ?? [];
    const read = data.indexed?.read ?? [];
    this.#tell(() => (outcome === "completed" ? this.#say("read", read.length) : this.#say(outcome, error?.message ?? "")));
    await this.#list();
    this.#changed();
  }

  #linked(live, refused) {
    if (refused) this.#tell(() => (refused.status === 404 ? "" : problem(refused, this.#say)));
    else if (!live) this.#tell(() => this.#say("reconnecting"));
  }

  #progress({ progress, outcome }) {
    if (progress?.task !== "index" || outcome) return;
    const { done, total, note } = progress;
    $("progress").hidden = false;
    $("progress").max = total || 1;
    $("progress").value = done;
    this.#tell(() => this.#say("reading_file", Math.min(done + 1, total), total, note ?? ""));
  }

  async #delete(name, row) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    try {
      await remove(`documents/${encodeURIComponent(name)}`);
    } catch (error) {
      if (error.status !== 404) return this.#tell(() => problem(error, this.#say));
    }
    const after = next?.dataset.name;
    this.#tell(() => this.#say("deleted", name));
    await this.#list();
    const row2 = [...$("list").children].find((one) => one.dataset.name === after);
    (row2?.querySelector("button") ?? $("upload")).focus();
    this.#changed();
  }

  async #list() {
    this.#found = await get("documents").catch((error) => (error.status ? null : this.#found));
    this.#show();
  }

  #tell(told) {
    this.#told = told;
    this.#show();
  }

  #show() {
    $("documents").hidden = !this.#found;
    if (!this.#found) return;
    const [say, { documents, folder, formats, limits }] = [this.#say, this.#found];
    tell($("uploaded"), this.#told());
    tell($("folder"), documents.length && folder.own === false && folder.count === documents.length ? "" : place(folder, documents, say));
    tell($("limits"), `${formats.join(" ")} · ${say("limits", limits)}`);
    $("list").replaceChildren(...documents.map((one) => this.#row(one)));
    const unread = [...this.#unread, ...folder.skipped];
    $("unread").hidden = !unread.length;
    $("skipped").replaceChildren(...unread.map(({ name, reason }) => element("li", "", element("strong", "", name), ` ${say("reason", reason)}`)));
  }

  #row({ name, title, bytes }) {
    const label = element("span", "name", name);
    label.title = title;
    const row = element("li", "", label, element("span", "size", size(bytes)));
    const away = button("away", "×", () => this.#delete(name, row));
    away.setAttribute("aria-label", this.#say("delete", name));
    row.dataset.name = name;
    row.append(away);
    return row;
  }
}

function place(folder, documents, say) {
  if (folder.state !== "ready") return say(folder.state === "failed" ? "unread" : "reading");
  if (folder.own) return say("own", folder.count);
  const besides = folder.count - documents.length;
  return besides > 0 ? say("from_folder", besides) : "";
}

/** Files may be dropped anywhere on the page. Anything else that is dragged is left alone. */
function acceptDrops(take) {
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const mark = (on) => document.body.toggleAttribute("data-dropping", on);
  addEventListener("dragenter", (event) => carries(event) && mark(++depth > 0));
  addEventListener("dragleave", (event) => carries(event) && mark(--depth > 0));
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault(); // else the browser would leave the page for the file
    depth = 0;
    mark(false);
    take([...event.dataTransfer.files]);
  });
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const [value, unit] = bytes < 1024 * 1024 ? [bytes / 1024, "KB"] : [bytes / 1024 / 1024, "MB"];
  return `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)} ${unit}`;
}
