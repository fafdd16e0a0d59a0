// One question of a conversation and the run that answers it. The run lives on the server; this watches it and tells the view.

import { answer, get } from "./api.js";
import { advice } from "./problems.js";
import { emptyRun, fromTranscript } from "./run.js";
import { LIVE, TurnView } from "./view.js";
import { Watch } from "./watch.js";

const LINK_GRACE = 700; // ms: a connection that is back by then was never worth a word
const GONE = { 404: "not_found", 410: "expired" };
const CUTS = ["length", "content_filter", "refusal"]; // finish reasons that a reader must know
const ANSWERERS = ["extractive", "scripted"]; // who answers where no model is attached

export class Turn {
  phase = "sending";
  run = null;
  stopAsked = false;
  turning = false; // a pause or its end is asked for
  #view;
  #say;
  #moved;
  #watch = null;
  #state = null;
  #grace = null;
  #link = null;
  #trouble = "";
  #why = null; // a Refusal
  #whole = false;
  #last = true;

  /** `moved(turn)` after every change that others may want to know of. */
  constructor({ question, mode, say, moved }) {
    this.question = question;
    this.mode = mode;
    this.#say = say;
    this.#moved = moved;
    this.#view = new TurnView(say, (question, value) => this.#answer(question, value));
    this.root = this.#view.root;
    this.root.turn = this;
    for (const name of ["continue", "retry"]) {
      this.root.querySelector(`.${name}`).addEventListener("click", () => this.again?.(name));
    }
    this.change({});
  }

  get live() {
    return LIVE.includes(this.phase);
  }

  speak(say) {
    this.#say = say;
    this.#view.speak(say);
    this.change({});
  }

  /** Follow this run, live. `keep`: it goes on from what is shown. */
  follow(run, { keep = false, phase = this.phase } = {}) {
    this.close();
    if (this.run) this.#view.reset({ keep });
    this.run = run;
    this.#whole = true;
    this.#why = null;
    this.#link = null;
    this.#watch = new Watch(run, {
      changed: (state) => this.#changed(state),
      linked: (live, refused) => this.#linked(live, refused),
    });
    this.#state = this.#watch.state;
    this.change({ phase: this.stopAsked ? "stopping" : phase, trouble: "" });
    this.#watch.follow();
  }

  /** Show a run that has ended as its thread tells it; `complete` gets the rest. */
  tell({ run, content, outcome, error, usage, can }) {
    this.close();
    if (this.run && this.run !== run) this.#view.reset({ keep: false });
    this.run = run;
    this.#whole = false;
    const parts = content ? [{ kind: "text", id: "p1", text: content, done: true }] : [];
    this.#state = Object.assign(emptyRun(run), { parts, text: content, outcome, error, usage, can: can ?? [] });
    this.change({ phase: outcome });
  }

  /** Sources, tool calls and reasoning of a run that has ended: once, when somebody is about to see it. */
  async complete() {
    if (this.#whole) return;
    this.#whole = true;
    const { run } = this;
    const transcript = await get(`runs/${run}/transcript`).catch(() => null);
    if (!transcript) this.#whole = false;
    else if (this.run === run && !this.#watch) {
      this.#state = fromTranscript(transcript);
      if (!this.question) this.question = asked(this.#state);
      this.change({});
    }
  }

  /** Not to be shown: refused, or not there. */
  refuse(error) {
    const gone = this.question ? undefined : GONE[error.status];
    this.#why = error;
    this.change({ phase: gone ?? "refused" });
  }

  change({ phase = this.phase, link = this.#link, trouble = this.#trouble }) {
    this.phase = phase;
    this.#link = LIVE.includes(phase) ? link : null;
    this.#trouble = trouble;
    this.#show();
    this.#moved(this);
  }

  /** Whether it is the last of its conversation: only that one can be retried or continued. */
  place({ last }) {
    if (last === this.#last) return;
    this.#last = last;
    if (!last) this.#view.fold();
    this.#show();
  }

  wake() {
    this.#watch?.wake();
  }

  close() {
    this.#settle();
    this.#watch?.close();
    this.#watch = null;
  }

  /** Somebody else's answer is told by the run itself. */
  async #answer(question, value) {
    await answer(this.run, question, value).catch((error) => {
      if (error.status !== 409) throw error;
    });
  }

  #changed(state) {
    this.question ||= asked(state);
    const phase = state.outcome ?? (this.phase === "stopping" ? "stopping" : doing(state));
    this.change({ phase });
  }

  #linked(live, refused) {
    if (live || refused) this.#settle();
    if (refused) {
      this.#why = refused;
      this.change({ phase: GONE[refused.status] ?? "refused" });
    } else if (live) {
      if (this.#link) this.change({ link: null });
    } else {
      this.#grace ??= setTimeout(() => {
        this.#grace = null;
        this.change({ link: lost() });
      }, LINK_GRACE);
    }
  }

  #settle() {
    clearTimeout(this.#grace);
    this.#grace = null;
  }

  #show() {
    const state = this.#state;
    const error = this.#why ?? state?.error;
    const can = this.#last && state?.outcome ? state.can.filter((name) => name !== "continue" || state.text) : [];
    const trouble = this.#trouble || advice(error, this.#say, { partial: can.includes("continue") });
    this.#view.show({ run: this.run, question: this.question, phase: this.phase, status: this.#status(error), trouble, notes: this.#notes(), state, can });
  }

  #status(error) {
    const [say, state] = [this.#say, this.#state];
    if (this.#link) return say(this.#link);
    if (this.phase === "thinking" && state?.progress?.task === "attempt") return say("attempt", state.progress.done, state.progress.note ?? "");
    if (this.phase === "thinking" && state?.queued) return say("queued", state.queued - 1);
    if (this.phase === "thinking") return say(`thinking_${this.mode}`);
    if (this.phase === "using") return say("using", working(state).name);
    return say(this.phase, error?.message ?? "");
  }

  /** The quiet line: who answered, why it ended, what it took. */
  #notes() {
    const [say, state] = [this.#say, this.#state];
    if (!state?.outcome) return [];
    const { usage, finish } = state;
    const counted = usage && usage.source !== "unknown" && usage.input + usage.output > 0;
    return [
      ANSWERERS.includes(state.data.answerer) ? say(`by_${state.data.answerer}`) : "",
      finish?.model ?? "",
      CUTS.includes(finish?.reason) ? say(`finish_${finish.reason}`) : "",
      counted ? say("usage", usage.input, usage.output, usage.source === "estimated") : "",
    ].filter(Boolean);
  }
}

/** What to say of a server that does not answer. */
export function lost() {
  return navigator.onLine ? "reconnecting" : "offline";
}

function asked(state) {
  return typeof state.data.question === "string" ? state.data.question : "";
}

function doing(state) {
  if (state.doing === "paused") return "paused";
  if (state.parts.some((part) => part.kind === "question" && !part.outcome)) return "waiting";
  if (working(state)) return "using";
  const last = state.parts.at(-1);
  return last?.kind === "text" ? "answering" : "thinking";
}

function working(state) {
  return state.parts.findLast((part) => part.kind === "tool" && !part.outcome);
}
