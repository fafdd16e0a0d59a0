// The page: one question and its run at a time. The run lives on the server; this only starts, watches and steers it.
//
// What must survive a reload is kept where a reload finds it: the run's id in the address, and, until there is one, the
// start itself with its key in this tab's storage. Sent again with the same key, it is the same run.

import { get, start, verb } from "./api.js";
import { history as showHistory } from "./history.js";
import { $, LIVE, View, element } from "./view.js";
import { Watch, backoff } from "./watch.js";
import { firstLanguage, speaker } from "./words.js";

const PENDING = "tidelog.pending";
const RUN = /^#run=([A-Za-z0-9_-]{1,64})$/;
const LINK_GRACE = 700; // ms: a connection that is back by then was never worth a word
const ABOUT_EVERY = 1_000;
const GONE = { 404: "not_found", 410: "expired" };

const tabs = new BroadcastChannel("tidelog");
const view = new View(speaker("en"));
let language;
let say;
let about = null;
let thread = null;
let turn = null; // {question, phase, watch, trouble, link, why, stopAsked}

// Starting

function ask(question) {
  const pending = { key: newKey(), thread, question, pace: Number($("pace").value) };
  keep(sessionStorage, PENDING, JSON.stringify(pending));
  begin(pending);
}

async function begin(pending) {
  const mine = open({ question: pending.question, phase: "sending" });
  for (let failures = 0; turn === mine; failures++) {
    try {
      const started = await start(pending);
      if (turn !== mine) return;
      history.pushState(null, "", `#run=${started.run}`);
      forget(sessionStorage, PENDING);
      watch(mine, started.run);
      if (mine.stopAsked) stop();
      return;
    } catch (error) {
      if (turn !== mine) return;
      if (error.final) {
        forget(sessionStorage, PENDING);
        return change(mine, { phase: "refused", why: error.message });
      }
      change(mine, { link: lost() });
      await wait(error.retryAfter || backoff(failures));
    }
  }
}

/** A random name for a start. `randomUUID` exists only on https and localhost, and the page may be on neither. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Watching

function open(fresh, { keep = false } = {}) {
  turn?.watch?.close();
  turn = { trouble: null, link: null, watch: null, stopAsked: false, ...fresh };
  $("welcome").hidden = true;
  $("examples").hidden = true;
  view.reset({ keep });
  change(turn, {});
  return turn;
}

function watch(mine, run) {
  mine.watch = new Watch(run, {
    changed: (state) => moved(mine, state),
    linked: (live, refused) => linked(mine, live, refused),
  });
  mine.watch.follow();
}

function moved(mine, state) {
  if (turn !== mine) return;
  if (state.thread && state.thread !== thread) thread = state.thread;
  const ended = state.outcome !== null;
  if (state.question) mine.question = state.question;
  const live = mine.phase === "stopping" ? "stopping" : state.searching ? "searching" : "answering";
  change(mine, { phase: ended ? state.outcome : live, why: state.error?.message });
  if (thread && !mine.placed) showHistory(thread, state.run, say);
  mine.placed = true;
}

function linked(mine, live, refused) {
  if (turn !== mine) return;
  clearTimeout(mine.grace);
  if (refused) return change(mine, { phase: GONE[refused.status] ?? "refused", why: refused.message });
  if (live) return mine.link && change(mine, { link: null });
  mine.grace = setTimeout(() => turn === mine && change(mine, { link: lost() }), LINK_GRACE);
}

function lost() {
  return navigator.onLine ? "reconnecting" : "offline";
}

function change(mine, changes) {
  Object.assign(mine, changes);
  if (!LIVE.includes(mine.phase)) mine.link = null;
  document.title = mine.question ? `${mine.question} · tidelog` : say("title");
  const { question, phase, trouble, link, why } = mine;
  view.show({ question, phase, trouble, link, why, state: mine.watch?.state });
}

// Steering

async function stop() {
  const mine = turn;
  change(mine, { phase: "stopping", stopAsked: true, trouble: null });
  if (!mine.watch) return; // sent as soon as the run has a name
  try {
    await verb(mine.watch.state.run, "stop");
  } catch (error) {
    if (turn === mine && mine.phase === "stopping") {
      change(mine, { phase: "answering", stopAsked: false, trouble: say("refused", error.message) });
    }
  }
}

async function again(name) {
  const mine = turn;
  const old = mine.watch.state.run;
  for (const button of [$("continue"), $("retry")]) button.disabled = true;
  try {
    follow(mine, name, old, await successor(old, name));
  } catch (error) {
    if (turn === mine) change(mine, { trouble: say("refused", error.message) });
  } finally {
    for (const button of [$("continue"), $("retry")]) button.disabled = false;
  }
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

function follow(mine, name, old, run) {
  if (turn !== mine || mine.watch.state.run !== old) return;
  const next = open({ question: mine.question, phase: "searching" }, { keep: name === "continue" });
  history.replaceState(null, "", `#run=${run}`);
  watch(next, run);
  tabs.postMessage({ name, old, run });
}

// Another tab of this browser that shows the same run goes on with it.
tabs.addEventListener("message", ({ data }) => {
  if (turn?.watch?.state.run !== data.old) return;
  const next = open({ question: turn.question, phase: "searching" }, { keep: data.name === "continue" });
  history.replaceState(null, "", `#run=${data.run}`);
  watch(next, data.run);
});

// The page around it

function speak(chosen) {
  language = chosen;
  say = speaker(chosen);
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  $("question").placeholder = say("hint");
  $("language").textContent = say("other");
  $("language").lang = chosen === "zh" ? "en" : "zh-CN";
  document.title = say("title");
  view.speak(say, chosen);
  if (turn) change(turn, {});
  showAbout();
}

function showAbout() {
  const documents = about?.documents;
  $("own").hidden = !documents?.own;
  $("examples").hidden = !documents?.own || turn !== null;
  $("examples").replaceChildren(...say("examples").map(example));
  if (!about) return;
  const read = { reading: say("reading"), failed: say("unread"), ready: say("documents", documents.count) };
  const kept = about.store.startsWith("memory:") ? say("forgotten") : say("kept", about.store);
  $("about").textContent = [`tidelog ${about.version}`, read[documents.state], kept].join(" · ");
}

function example(question) {
  const button = element("button", "", question);
  button.type = "button";
  button.addEventListener("click", () => ask(question));
  return element("li", "", button);
}

async function learnAbout() {
  about = await get("about").catch(() => null);
  showAbout();
  if (about?.documents.state === "reading") setTimeout(learnAbout, ABOUT_EVERY);
}

function goHome() {
  turn?.watch?.close();
  turn = null;
  thread = null;
  forget(sessionStorage, PENDING);
  for (const id of ["turn", "earlier"]) $(id).hidden = true;
  $("welcome").hidden = false;
  document.title = say("title");
  showAbout();
}

function arrive() {
  const pending = read(sessionStorage, PENDING);
  const run = RUN.exec(location.hash)?.[1];
  if (pending) {
    const found = JSON.parse(pending);
    thread = found.thread;
    begin(found);
  } else if (run) watch(open({ question: "", phase: "searching" }), run);
  else goHome();
}

function submit(event) {
  event?.preventDefault();
  const question = $("question").value.trim();
  if (!question) return;
  $("question").value = "";
  if (matchMedia("(pointer: coarse)").matches) $("question").blur(); // the keyboard would hide the answer
  ask(question);
}

function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// Storage may be forbidden; the page then works until it is reloaded before the first byte.
function keep(storage, name, value) {
  try { storage.setItem(name, value); } catch {}
}

function read(storage, name) {
  try { return storage.getItem(name); } catch { return null; }
}

function forget(storage, name) {
  try { storage.removeItem(name); } catch {}
}

$("ask").addEventListener("submit", submit);
$("question").addEventListener("keydown", (event) => {
  // Enter also ends the choice of a Chinese character: that one is not for us.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
});
$("stop").addEventListener("click", stop);
$("continue").addEventListener("click", () => again("continue"));
$("retry").addEventListener("click", () => again("retry"));
$("language").addEventListener("click", () => {
  speak(language === "zh" ? "en" : "zh");
  keep(localStorage, "tidelog.language", language);
});
$("pace").addEventListener("change", () => keep(localStorage, "tidelog.pace", $("pace").value));
$("home").addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", location.pathname + location.search);
  goHome();
  $("question").focus();
});
addEventListener("hashchange", arrive);
addEventListener("popstate", () => location.hash || arrive());
for (const name of ["online", "pageshow"]) addEventListener(name, () => turn?.watch?.wake());
document.addEventListener("visibilitychange", () => document.hidden || turn?.watch?.wake());

$("pace").value = read(localStorage, "tidelog.pace") ?? "12";
if (!$("pace").value) $("pace").value = "12";
speak(firstLanguage(read(localStorage, "tidelog.language")));
arrive();
learnAbout();
