// Shows one question and its run. It decides nothing: `show` may be called at any time with any state.

import { reasoning, sourceCard, toolCard } from "./cards.js";
import { $, element, tell } from "./dom.js";
import { paint } from "./markdown.js";
import { questionCard } from "./question.js";

const AT_LEAST = 100; // ms: a page in the background gets no animation frames, and is read when it comes back
const NEAR_END = 80; // px: who reads at the end of the page is kept there
const LEAP = 0.5; // of the window's height: what grows by more at once is read from its beginning
const SENTENCE_END = /[。！？\n]|[.!?…](?=\s)/g;

export const LIVE = ["sending", "thinking", "using", "answering", "paused", "waiting", "stopping"];
const TROUBLES = ["failed", "interrupted", "timed_out", "refused", "not_found", "expired"];
const MAKERS = {
  tool: (part, say, node) => toolCard(part, say, node),
  reasoning: (part, say, node) => reasoning(part, say, node),
  question: (part, say, node, send) => questionCard(part, say, (value) => send(part.id, value), node),
};

let made = 0;

export class TurnView {
  #say;
  #send;
  #shown = null; // the sources that the cards show
  #spoken = 0;
  #voiced = false;
  #due = false;
  #next = null;

  /** `send(question, value)` answers a question of the run. */
  constructor(say, send) {
    this.#send = send;
    this.root = $("turn").content.firstElementChild.cloneNode(true);
    this.#part("asked").id = `asked-${++made}`;
    this.root.setAttribute("aria-labelledby", `asked-${made}`);
    this.speak(say);
  }

  /** The words of another language; what is shown is told again with the next `show`. */
  speak(say) {
    this.#say = say;
    this.#shown = null;
    for (const node of this.root.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
    for (const node of this.#part("parts").children) node.print = null;
  }

  /** Another run follows; where it goes on from the last one, what is shown stays until there is something newer. */
  reset({ keep }) {
    this.#shown = null;
    if (keep) return;
    this.#spoken = 0;
    this.#part("parts").replaceChildren();
    this.#part("cards").replaceChildren();
    this.#part("sources").hidden = true;
  }

  /** Folds the sources away: a newer question is asked. */
  fold() {
    this.#part("sources").open = false;
  }

  /** `now`: {run, question, phase, status, trouble, notes, state, can}. Painted with the next frame, the last one given. */
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

  #part(name) {
    return this.root.querySelector(`.${name}`);
  }

  #paint({ run, question, phase, status, trouble, notes, state, can }) {
    const live = LIVE.includes(phase);
    const height = document.documentElement.scrollHeight;
    const followed = (live || this.root.hasAttribute("data-live")) && innerHeight + scrollY > height - NEAR_END;
    if (run) this.root.dataset.run = run;
    this.root.dataset.phase = phase;
    this.root.toggleAttribute("data-live", live);
    this.root.toggleAttribute("data-trouble", Boolean(trouble) || TROUBLES.includes(phase));
    tell(this.#part("asked"), question);
    tell(this.#part("status"), status);
    tell(this.#part("trouble"), trouble ?? "");
    tell(this.#part("notes"), notes.join(" · "));
    for (const name of ["continue", "retry"]) this.#part(name).hidden = !can.includes(name);
    this.#part("actions").hidden = !can.length;
    if (state) {
      this.#sources(state.sources, live);
      if (state.parts.length || state.outcome) this.#parts(state);
      if (live) this.#voiced = true;
      if (this.#voiced) this.#speakNew(state);
    }
    if (followed) this.#stay(height);
  }

  /** At the end, where the reader was. */
  #stay(before) {
    const height = document.documentElement.scrollHeight;
    if (height - before > innerHeight * LEAP) this.root.scrollIntoView();
    else if (height !== before) scrollTo({ top: height });
  }

  #sources(sources, live) {
    if (this.#shown === sources || (!sources.length && live)) return;
    this.#shown = sources;
    this.#part("sources").hidden = !sources.length;
    this.#part("count").textContent = sources.length;
    this.#part("cards").replaceChildren(...sources.map((source, at) => sourceCard(source, at + 1)));
    for (const node of this.#part("parts").children) if (node.kind === "text") node.replaceChildren(); // with other marks
  }

  #parts(state) {
    const root = this.#part("parts");
    state.parts.forEach((part, at) => {
      const old = root.children[at];
      const same = old?.kind === part.kind && old.name === part.id ? old : null;
      const node = part.kind === "text" ? this.#text(part, same, state.sources) : this.#card(part, same);
      node.kind = part.kind;
      node.name = part.id;
      if (same) return;
      if (old) old.replaceWith(node);
      else root.append(node);
    });
    while (root.children.length > state.parts.length) root.lastElementChild.remove();
  }

  #text(part, old, sources) {
    const node = old ?? element("div", "answer");
    paint(node, part.text, (number) => this.#cite(number, sources));
    return node;
  }

  #card(part, old) {
    const print = JSON.stringify(part);
    if (old?.print === print) return old;
    const node = MAKERS[part.kind](part, this.#say, old, this.#send);
    node.print = print;
    return node;
  }

  #cite(number, sources) {
    if (number < 1 || number > sources.length) return null;
    const mark = element("button", "cite", String(number));
    mark.type = "button";
    mark.title = sources[number - 1].title;
    mark.setAttribute("aria-label", this.#say("source", number));
    mark.addEventListener("click", () => this.#point(number));
    return mark;
  }

  #point(number) {
    this.#part("sources").open = true;
    const cards = [...this.#part("cards").children];
    const item = cards[number - 1];
    for (const other of cards) other.classList.toggle("pointed", other === item);
    item.scrollIntoView({ behavior: "smooth", block: "nearest", inline: "start" });
    item.focus({ preventScroll: true });
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
