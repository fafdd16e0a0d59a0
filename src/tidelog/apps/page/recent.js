// The conversations of this browser, newest first, kept in its own storage: the server lists them to nobody else.

import { MODES } from "./api.js";
import { $, button, element, keep, recall } from "./dom.js";

const NAME = "tidelog.recent";
const LIMIT = 20;
const TITLE = 80;

/** What is kept: [{thread, mode, title}]. */
export function recent() {
  const found = recall("localStorage", NAME);
  return Array.isArray(found) ? found.filter((one) => one?.thread && MODES.includes(one.mode)) : [];
}

/** Puts a conversation first; its title stays the first question that it was given. */
export function remember({ thread, mode, title }) {
  const before = recent();
  const old = before.find((one) => one.thread === thread);
  const now = { thread, mode, title: old?.title || title.slice(0, TITLE) };
  keep("localStorage", NAME, [now, ...before.filter((one) => one !== old)].slice(0, LIMIT));
}

export function drop(thread) {
  keep("localStorage", NAME, recent().filter((one) => one.thread !== thread));
}

/** `discard({thread, mode, title})` for the button that deletes one. */
export function showRecent(current, say, discard) {
  $("recent").replaceChildren(...recent().map((one) => entry(one, current, say, discard)));
  $("none").hidden = $("recent").children.length > 0;
}

function entry(one, current, say, discard) {
  const { thread, mode, title } = one;
  const link = element("a", "", element("span", "title", title || "…"), element("span", "kind", say(`mode_${mode}`)));
  link.href = `#${mode}/${thread}`;
  if (thread === current) link.setAttribute("aria-current", "page");
  const away = button("away", "×", () => discard(one));
  away.setAttribute("aria-label", say("delete_talk", title));
  return element("li", "", link, away);
}
