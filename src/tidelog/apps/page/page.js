// The page: three applications, one conversation at a time, and what stands around it.
//
// The address names both: `#rag`, `#chat/<thread>`. `#run=<run>` finds the conversation that a run belongs to.

import { About } from "./about.js";
import { MODES, get, remove } from "./api.js";
import { Conversation, modeOf } from "./conversation.js";
import { Documents } from "./documents.js";
import { $, forget, keep, recall, tell } from "./dom.js";
import { drop, remember, showRecent } from "./recent.js";
import { SignIn } from "./signin.js";
import { firstLanguage, speaker } from "./words.js";

const PLACE = /^#(rag|chat|agent)(?:\/([A-Za-z0-9_-]{1,64}))?$/;
const RUN = /^#run=([A-Za-z0-9_-]{1,64})$/;
const LOOK_EVERY = 10_000;
const PACE = "12";

let language = firstLanguage(recall("localStorage", "tidelog.language"));
let say = speaker(language);
let notice = null; // the name of a word
let busy = false; // whether a run was at work at the last look

const conversation = new Conversation({ list: $("turns"), say, on: { changed, placed, returned, linked, gone } });
const about = new About({ say, mode: MODES[0], ask });
const signIn = new SignIn({ say });
const documents = new Documents({ say, changed: () => about.learn() });

// The conversation

function ask(question) {
  if (conversation.live) return notify("wait");
  notify(null);
  const model = Boolean(about.model);
  conversation.ask(question, model ? {} : { pace: Number($("pace").value) });
}

function changed() {
  const { last, live, mode, thread } = conversation;
  const empty = !last && !thread;
  const focused = document.activeElement;
  document.body.toggleAttribute("data-empty", empty);
  $("welcome").hidden = $("examples").hidden = !empty;
  $("stop").hidden = !live;
  $("stop").disabled = last?.phase === "stopping";
  $("pause").hidden = !live || !last?.run;
  $("pause").disabled = last?.phase === "stopping" || last?.turning;
  $("pause").dataset.say = last?.phase === "paused" ? "resume" : "pause";
  $("pause").textContent = say($("pause").dataset.say);
  $("send").hidden = live;
  if (!live && notice === "wait") notify(null);
  if (busy && !live) about.settled();
  busy = live;
  if ((focused === $("stop") && (!live || $("stop").disabled)) || (focused === $("pause") && !live)) $("question").focus();
  document.title = last?.question ? `${last.question} · tidelog` : say(`title_${mode}`);
}

function placed({ thread, mode, title, here }) {
  remember({ thread, mode, title });
  const place = `#${mode}/${thread}`;
  if (here && location.hash !== place) history.pushState(null, "", place);
  list(conversation.thread);
}

/** A question that was not taken goes back into its field, unless another one stands there. */
function returned(question, busy) {
  $("question").value ||= question;
  if (busy) notify("busy");
}

function linked(word) {
  if (word || ["reconnecting", "offline"].includes(notice)) notify(word);
}

function gone(thread) {
  drop(thread);
  list(null);
  changed();
  notify("not_found");
}

function list(thread) {
  showRecent(thread, say, discard);
}

/** Delete a conversation, everywhere and for good. */
async function discard({ thread, mode, title }) {
  if (!confirm(say("delete_sure", title))) return;
  try {
    await remove(`threads/${thread}`);
  } catch (error) {
    if (error.status !== 404) return notify(error.status ? "undeleted" : "unreachable");
  }
  drop(thread);
  if (thread !== conversation.thread) return list(conversation.thread);
  conversation.abandon();
  history.replaceState(null, "", `#${mode}`);
  await arrive();
  $("question").focus();
}

function notify(word) {
  notice = word;
  tell($("notice"), word ? say(word) : "");
}

// Where the page stands

async function arrive() {
  notify(null);
  const run = RUN.exec(location.hash)?.[1];
  if (run) return find(run);
  const [, mode = MODES[0], thread = null] = PLACE.exec(location.hash) ?? [];
  if (thread && thread === conversation.thread && conversation.last) return;
  show(mode, thread);
}

async function find(run) {
  show(MODES[0], null);
  try {
    const found = await get(`runs/${run}`);
    const mode = modeOf(found.route);
    history.replaceState(null, "", `#${mode}/${found.thread}`);
    show(mode, found.thread);
  } catch (error) {
    notify(error.status === 410 ? "expired" : error.status ? "not_found" : "unreachable");
  }
}

function show(mode, thread) {
  around(mode);
  conversation.open({ mode, thread });
  list(thread);
}

/** What stands around the conversation, for this application. */
function around(mode) {
  document.body.dataset.mode = mode;
  for (const link of $("modes").children) {
    if (link.hash === `#${mode}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  $("new").href = `#${mode}`;
  for (const [id, word] of [["lead", "lead"], ["sub", "sub"]]) $(id).textContent = say(`${word}_${mode}`);
  $("question").placeholder = say(`hint_${mode}`);
  about.turnTo(mode);
  drawer(false);
}

/** A new conversation, also where the address stays the same. */
function renew(event) {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  conversation.abandon();
  const { hash } = new URL(event.currentTarget.href);
  if (location.hash !== hash) history.pushState(null, "", hash || location.pathname + location.search);
  arrive();
  $("question").focus();
}

function drawer(open) {
  $("drawer").setAttribute("aria-expanded", open);
  document.body.toggleAttribute("data-drawer", open);
}

// Words

function speak(chosen) {
  language = chosen;
  say = speaker(chosen);
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  $("language").textContent = say("other");
  $("language").lang = chosen === "zh" ? "en" : "zh-CN";
  for (const part of [conversation, about, documents, signIn]) part.speak(say);
  around(conversation.mode);
  notify(notice);
  changed();
  list(conversation.thread);
}

function submit(event) {
  event?.preventDefault();
  const question = $("question").value.trim();
  if (!question) return;
  if (conversation.live) return notify("wait");
  $("question").value = "";
  if (matchMedia("(pointer: coarse)").matches) $("question").blur(); // the keyboard would hide the answer
  ask(question);
}

$("ask").addEventListener("submit", submit);
$("question").addEventListener("keydown", (event) => {
  // Enter also ends the choice of a Chinese character: that one is not for us.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
});
$("stop").addEventListener("click", () => conversation.stop());
$("pause").addEventListener("click", () => conversation.pause());
$("language").addEventListener("click", () => {
  speak(language === "zh" ? "en" : "zh");
  keep("localStorage", "tidelog.language", language);
});
$("pace").addEventListener("change", () => keep("localStorage", "tidelog.pace", $("pace").value));
$("drawer").addEventListener("click", () => drawer($("drawer").getAttribute("aria-expanded") !== "true"));
for (const link of [$("home"), $("new"), ...$("modes").children]) link.addEventListener("click", renew);
addEventListener("popstate", () => {
  conversation.abandon();
  arrive();
});
addEventListener("storage", () => list(conversation.thread));
for (const name of ["online", "pageshow"]) addEventListener(name, () => conversation.wake());
document.addEventListener("visibilitychange", () => document.hidden || conversation.wake());
setInterval(() => document.hidden || conversation.look(), LOOK_EVERY);

$("pace").value = recall("localStorage", "tidelog.pace") ?? PACE;
if (!$("pace").value) $("pace").value = PACE;
speak(language);
if (conversation.resume()) {
  around(conversation.mode);
  list(conversation.thread);
} else arrive();
about.learn();
documents.start();
