// The conversation that is shown: a thread's questions and answers, in order, and the run at work in it, followed live.
//
// The server keeps it; a reload, another tab and another device load the same thread and follow the same run. What must survive a
// reload before the server has answered is the start itself: it is kept in this tab's storage with its key. Sent again with
// the same key, it is the same run.

import { MODES, get, newKey, start, verb } from "./api.js";
import { forget, keep, recall } from "./dom.js";
import { problem } from "./problems.js";
import { Turn, lost } from "./turn.js";
import { backoff } from "./watch.js";

const PENDING = "tidelog.pending";
const NEAR = "600px"; // an answer within this distance of the window is about to be seen

export class Conversation {
  mode = MODES[0];
  thread = null;
  #turns = [];
  #list;
  #on;
  #say;
  #visit = {}; // a new object for every conversation that is shown: what belongs to an older one gives up
  #naps = new Set();
  #runs = 0;
  #tabs = new BroadcastChannel("tidelog");
  #seen;

  /** `on`: changed(), placed({thread, mode, title}), returned(question, busy), linked(word or null), gone(thread). */
  constructor({ list, say, on }) {
    this.#list = list;
    this.#say = say;
    this.#on = on;
    this.#tabs.addEventListener("message", ({ data }) => data.thread === this.thread && this.load());
    this.#seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) entry.target.turn.complete();
    }, { rootMargin: NEAR });
  }

  get last() {
    return this.#turns.at(-1) ?? null;
  }

  get live() {
    return this.#turns.some((turn) => turn.live);
  }

  speak(say) {
    this.#say = say;
    for (const turn of this.#turns) turn.speak(say);
  }

  /** Show this thread, or an empty conversation. */
  async open({ mode, thread = null }) {
    this.#visit = {};
    this.#rouse();
    for (const turn of [...this.#turns]) this.#remove(turn);
    Object.assign(this, { mode, thread });
    this.#runs = 0;
    this.#on.linked(null);
    this.#on.changed();
    if (thread) await this.load({ first: true });
  }

  /** Go on with a start that a reload has cut off; whether there was one. */
  resume() {
    const pending = recall("sessionStorage", PENDING);
    if (!pending) return false;
    const opened = this.open(pending);
    const visit = this.#visit;
    opened.then(() => visit === this.#visit && this.#begin(pending));
    return true;
  }

  /** Nobody waits for a start any more. */
  abandon() {
    forget("sessionStorage", PENDING);
  }

  ask(question, options) {
    for (const turn of this.#turns.filter((one) => !one.run && !one.live)) this.#remove(turn);
    const pending = { key: newKey(), mode: this.mode, thread: this.thread, question, ...options };
    keep("sessionStorage", PENDING, pending);
    this.#begin(pending);
  }

  async stop() {
    const turn = this.#turns.findLast((one) => one.live);
    if (!turn || turn.phase === "stopping") return;
    const before = turn.phase;
    turn.stopAsked = true;
    turn.change({ phase: "stopping", trouble: "" });
    if (!turn.run) return; // sent as soon as the run has a name
    try {
      await verb(turn.run, "stop");
    } catch (error) {
      turn.stopAsked = false;
      if (turn.phase === "stopping") turn.change({ phase: before, trouble: problem(error, this.#say) });
    }
  }

  /** Pause the run at work, or let it go on: whoever watches it hears of that from its log. */
  async pause() {
    const turn = this.#turns.findLast((one) => one.live);
    if (!turn?.run || turn.turning || turn.phase === "stopping") return;
    const { run } = turn;
    turn.turning = true;
    turn.change({ trouble: "" });
    let trouble = "";
    try {
      await verb(run, turn.phase === "paused" ? "resume" : "pause");
    } catch (error) {
      trouble = problem(error, this.#say);
    }
    turn.turning = false;
    if (turn.run === run && turn.live) turn.change({ trouble });
  }

  /** Read the thread and show what is new in it. Comes back by itself over a lost connection. */
  async load({ first = false } = {}) {
    const { visit, thread } = { visit: this.#visit, thread: this.thread };
    for (let failures = 0; visit === this.#visit; failures++) {
      try {
        const found = await get(`threads/${thread}`);
        if (visit !== this.#visit) return;
        this.#on.linked(null);
        this.#reconcile(found);
        if (first && this.#turns.length > 1) this.last.root.scrollIntoView();
        return;
      } catch (error) {
        if (visit !== this.#visit) return;
        if (error.final) {
          this.thread = null;
          return this.#on.gone(thread);
        }
        this.#on.linked(lost());
        await this.#rest(error.retryAfter || backoff(failures));
      }
    }
  }

  /** Whether another device has gone on with this thread: asked now and then, while nothing is at work here. */
  async look() {
    const { thread } = this;
    if (!thread || this.live) return;
    const found = await get(`threads/${thread}?limit=1`).catch(() => null);
    if (found && thread === this.thread && !this.live && found.runs.length !== this.#runs) await this.load();
  }

  /** The page was hidden, asleep or offline. */
  wake() {
    this.#rouse();
    for (const turn of this.#turns) turn.wake();
    this.look();
  }

  async #begin(pending) {
    const turn = this.#add({ question: pending.question, mode: pending.mode });
    scrollTo({ top: document.documentElement.scrollHeight });
    for (let failures = 0; this.#turns.includes(turn); failures++) {
      try {
        return this.#started(turn, pending, await start(pending));
      } catch (error) {
        if (!this.#turns.includes(turn)) return;
        if (error.final) return this.#refused(turn, pending, error);
        turn.change({ link: lost() });
        await this.#rest(error.retryAfter || backoff(failures));
      }
    }
  }

  #started(turn, pending, { run, thread }) {
    if (recall("sessionStorage", PENDING)?.key === pending.key) this.abandon();
    const here = this.#turns.includes(turn);
    if (here) this.thread = thread;
    this.#on.placed({ thread, mode: pending.mode, title: pending.question, here });
    if (!here) return;
    if (this.#turns.some((one) => one !== turn && one.run === run)) return this.#remove(turn); // loaded before
    const { stopAsked } = turn;
    turn.follow(run);
    this.#runs += 1;
    this.#tabs.postMessage({ thread });
    if (stopAsked) verb(run, "stop").catch(() => {});
  }

  #refused(turn, pending, error) {
    this.abandon();
    const busy = error.code === "thread_busy";
    this.#on.returned(pending.question, busy);
    if (!busy) return turn.refuse(error);
    this.#remove(turn);
    this.load();
  }

  async #again(turn, name) {
    const old = turn.run;
    if (turn.asking) return;
    turn.asking = true;
    try {
      const run = await successor(old, name);
      if (turn.run !== old || !this.#turns.includes(turn)) return;
      turn.stopAsked = false;
      turn.follow(run, { keep: name === "continue", phase: "thinking" });
      this.#runs += 1;
      this.#tabs.postMessage({ thread: this.thread });
    } catch (error) {
      if (error.code === "thread_busy") this.load();
      turn.change({ trouble: problem(error, this.#say) });
    } finally {
      turn.asking = false;
    }
  }

  #reconcile(found) {
    const runs = new Map(found.runs.map((one) => [one.run, one]));
    const told = exchanges(found, runs);
    this.#runs = runs.size;
    const before = this.#turns.filter((turn) => turn.run);
    const waiting = this.#turns.filter((turn) => !turn.run && turn.live);
    const now = told.map((one) => this.#find(before, one, runs) ?? this.#add({ question: one.question, mode: one.mode }));
    for (const turn of this.#turns.filter((one) => !now.includes(one) && !waiting.includes(one))) this.#remove(turn);
    this.#turns = [...now, ...waiting];
    this.#turns.forEach((turn, at) => {
      if (this.#list.children[at] !== turn.root) this.#list.insertBefore(turn.root, this.#list.children[at] ?? null);
    });
    told.forEach((one, at) => this.#show(now[at], one));
    this.#arrange();
    this.#on.changed();
  }

  #show(turn, one) {
    if (turn.run === one.run) return;
    if (one.state !== "ended") return turn.follow(one.run, { keep: one.again === "continue", phase: "thinking" });
    turn.tell(one);
    this.#seen.unobserve(turn.root);
    this.#seen.observe(turn.root);
  }

  /** The turn that shows this run, or one that it retries or continues. */
  #find(turns, one, runs) {
    for (let run = one.run; run; run = runs.get(run)?.of) {
      const found = turns.find((turn) => turn.run === run);
      if (found) return found;
    }
    return null;
  }

  #add({ question, mode }) {
    const turn = new Turn({ question, mode, say: this.#say, moved: (one) => this.#turns.includes(one) && this.#on.changed() });
    turn.again = (name) => this.#again(turn, name);
    this.#turns.push(turn);
    this.#list.append(turn.root);
    this.#arrange();
    this.#on.changed();
    return turn;
  }

  #remove(turn) {
    turn.close();
    turn.root.remove();
    this.#seen.unobserve(turn.root);
    this.#turns = this.#turns.filter((one) => one !== turn);
    this.#arrange();
    this.#on.changed();
  }

  #arrange() {
    for (const turn of this.#turns) turn.place({ last: turn === this.last });
  }

  #rest(ms) {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#naps.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#naps.add(end);
    });
  }

  #rouse() {
    for (const end of [...this.#naps]) end();
  }
}

/** The mode of a run, by the route that started it. */
export function modeOf(route) {
  const name = /(\w+)\/?$/.exec(route ?? "")?.[1];
  return MODES.includes(name) ? name : MODES[0];
}

/** Pairs of question and answer, in order, with what the thread knows of the run. */
function exchanges({ messages }, runs) {
  const found = [];
  for (const { role, content, run } of messages) {
    if (role === "user") found.push({ run, question: content, content: "" });
    else if (found.at(-1)?.run === run) found.at(-1).content = content;
    else found.push({ run, question: "", content });
  }
  return found.map((one) => {
    const { mode: again, route, ...known } = runs.get(one.run) ?? {};
    return { ...known, ...one, again, mode: modeOf(route) };
  });
}

/** The run that `name` makes. Asked once only: if the answer is lost on the way, the old run knows its successor. */
async function successor(old, name) {
  const before = (await get(`runs/${old}`)).successor;
  try {
    return (await verb(old, name)).run;
  } catch (error) {
    if (error.final) throw error;
    const after = (await get(`runs/${old}`)).successor;
    if (after && after !== before) return after;
    throw error;
  }
}
