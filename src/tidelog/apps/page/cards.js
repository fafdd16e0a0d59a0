// Cards beside an answer: a source, a tool call, folded reasoning. Everything in them is text.

import { element, link } from "./dom.js";
import { plain } from "./markdown.js";

const LONGEST = 20_000; // characters of a tool's input or output that are shown
const LINE = 200; // and of the line that stands for them

export function sourceCard(source, number) {
  const item = element("li");
  item.tabIndex = -1;
  const title = source.url && /^https?:/.test(source.url) ? link(source.url, source.title) : source.title;
  item.append(element("div", "card-title", element("span", "number", String(number)), element("span", "", title)));
  const path = (source.heading ?? []).filter((heading) => heading !== source.title);
  if (path.length) item.append(element("div", "path", plain(path.join(" › "))));
  if (source.quote) item.append(element("div", "quote", plain(source.quote)));
  return item;
}

/** Shows a tool call in `card`, or in a new one: its name and state in a line that opens to the whole input and output. */
export function toolCard(part, say, card = null) {
  const node = card ?? emptyTool(part);
  const state = part.outcome ?? "running";
  const result = part.error ?? part.output;
  const [name, line, told] = node.firstElementChild.children;
  name.textContent = part.name;
  line.textContent = [brief(given(part)), part.outcome ? brief(result, part.input) : ""].filter(Boolean).join(" → ");
  told.textContent = say(`tool_${state}`);
  node.dataset.state = state;
  const pieces = [[say("tool_input"), given(part)], [say(part.error ? "tool_error" : "tool_output"), part.outcome ? result : undefined]];
  node.lastElementChild.replaceChildren(...pieces.filter(([, value]) => full(value)).flatMap(([label, value]) => [
    element("dt", "", label),
    element("dd", "", element("pre", "", full(value))),
  ]));
  return node;
}

/** A model's reasoning, folded. */
export function reasoning(part, say, card = null) {
  const node = card ?? element("details", "reasoning", element("summary"), element("div", "thought"));
  node.firstElementChild.textContent = say(part.done ? "reasoning" : "reasoning_on");
  node.lastElementChild.textContent = part.text;
  return node;
}

function emptyTool(part) {
  const line = element("summary", "", element("strong"), element("span", "line"), element("span", "state"));
  const node = element("details", "tool", line, element("dl"));
  node.dataset.call = part.id;
  return node;
}

function given(part) {
  return part.input === undefined || part.input === null ? part.json : part.input;
}

/** A value in one line; of an object its fields, without those that only repeat `known`. */
function brief(value, known = null) {
  if (value === undefined || value === null) return "";
  if (typeof value !== "object") return oneLine(String(value));
  if (Array.isArray(value)) return oneLine(value.map((one) => brief(one)).join(", "));
  const fields = Object.entries(value).filter(([name, field]) => field !== known?.[name]);
  if (fields.length === 1) return brief(fields[0][1]);
  return oneLine(fields.map(([name, field]) => `${name}: ${brief(field)}`).join(" · "));
}

function oneLine(text) {
  return text.replaceAll(/\s+/g, " ").slice(0, LINE);
}

function full(value) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
