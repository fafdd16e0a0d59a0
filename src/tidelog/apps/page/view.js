// Shows a run on the page. It decides nothing: `show` may be called at any time with any state.

import { paint, plain } from "./markdown.js";

const AT_LEAST = 100; // ms: a page in the background gets no animation frames, and is read when it comes back
const NEAR_END = 60; // px: who reads at the end of the page is kept there
const SENTENCE_END = /[。！？\n]|[.!?…](?=\s)/g;

export const $ = (id) => document.getElementById(id);

export class View {
  #turn = $("turn");
  #shown = { sources: null, language: null };
  #spoken = 0;
  #due = false;
  #next = null;
  #say;

  constructor(say) {
    this.#say = say;
  }

  /** The words of another language; what is shown is told again with the next `show`. */
  speak(say, language) {
    this.#say = say;
    this.#shown.language = language;
    this.#shown.sources = null;
  }

  /** Another run follows; where it goes on from the last one, what is shown stays until there is something newer. */
  reset({ keep }) {
    this.#spoken = keep ? this.#spoken : 0;
    this.#shown.sources = null;
    if (keep) return;
    $("answer").replaceChildren();
    $("cards").replaceChildren();
  }

  /** `now`: {question, phase, why, state, trouble, link}. Painted with the next frame, the last one given. */
  show(now) {
    this.#next = now;
    if (this.#due) return;
    this.#due = true;
    const paintOnce = () => {
      if (this.#due) this.#paint(this.#next);
      this.#due = false;
    };
    requestAnimationFrame(paintOnce);
    setTimeout(paintOnce, AT_LEAST);
  }

  #paint({ question, phase, state, trouble, link, why }) {
    this.#turn.hidden = false;
    this.#turn.dataset.phase = phase;
    this.#turn.toggleAttribute("data-live", LIVE.includes(phase));
    this.#turn.toggleAttribute("data-trouble", Boolean(trouble || link) || TROUBLES.includes(phase));
    $("asked").textContent = question;
    this.#state(link ? this.#say(link) : this.#say(phase, why ?? ""), phase, trouble, state);
    if (!state) return;
    const followed = LIVE.includes(phase) && innerHeight + scrollY > document.documentElement.scrollHeight - NEAR_END;
    this.#sources(state.sources, phase);
    if (state.text || state.outcome) paint($("answer"), state.text, (number) => this.#cite(number, state.sources));
    if (followed) scrollTo({ top: document.documentElement.scrollHeight });
    this.#speakNew(state);
  }

  #state(told, phase, trouble, state) {
    if ($("status").textContent !== told) $("status").textContent = told;
    $("trouble").textContent = trouble ?? "";
    $("trouble").hidden = !trouble;
    $("stop").hidden = !LIVE.includes(phase);
    $("stop").disabled = phase === "stopping";
    for (const name of ["continue", "retry"]) $(name).hidden = !state?.can.includes(name);
    $("actions").hidden = !state?.can.length;
  }

  #sources(sources, phase) {
    if (this.#shown.sources === sources || (!sources.length && phase === "searching")) return;
    this.#shown.sources = sources;
    $("sources").hidden = !sources.length;
    $("cards").replaceChildren(...sources.map((source, at) => card(source, at + 1)));
  }

  #cite(number, sources) {
    if (number > sources.length) return null;
    const mark = document.createElement("button");
    mark.type = "button";
    mark.className = "cite";
    mark.textContent = number;
    mark.title = sources[number - 1].title;
    mark.setAttribute("aria-label", this.#say("source", number));
    mark.addEventListener("click", () => point($("cards").children[number - 1]));
    return mark;
  }

  /** Screen readers hear whole sentences, each once, and not every word as it comes. */
  #speakNew(state) {
    const fresh = state.text.slice(this.#spoken);
    const ends = [...fresh.matchAll(SENTENCE_END)];
    const upTo = state.outcome ? fresh.length : ends.length ? ends.at(-1).index + 1 : 0;
    if (!upTo) return;
    $("spoken").textContent = fresh.slice(0, upTo).replaceAll(/\[\d+\]/g, "").trim();
    this.#spoken += upTo;
  }
}

export const LIVE = ["sending", "searching", "answering", "stopping"];
const TROUBLES = ["failed", "interrupted", "timed_out", "refused", "not_found", "expired"];

function card(source, number) {
  const item = element("li");
  item.tabIndex = -1;
  const title = source.url && /^https?:/.test(source.url) ? link(source.url, source.title) : source.title;
  const line = element("div", "card-title", element("span", "number", String(number)), element("span", "", title));
  const path = (source.heading ?? []).filter((heading) => heading !== source.title);
  item.append(line);
  if (path.length) item.append(element("div", "path", plain(path.join(" › "))));
  if (source.quote) item.append(element("div", "quote", plain(source.quote)));
  return item;
}

function point(item) {
  if (!item) return;
  for (const other of item.parentElement.children) other.classList.toggle("pointed", other === item);
  item.scrollIntoView({ behavior: "smooth", block: "nearest", inline: "start" });
  item.focus({ preventScroll: true });
}

function link(url, text) {
  const node = element("a", "", text);
  node.href = url;
  node.target = "_blank";
  node.rel = "noopener noreferrer";
  return node;
}

export function element(name, kind = "", ...children) {
  const node = document.createElement(name);
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}
