// A question to a person as a card: the prompt, buttons or a field, and what was decided. It stays where it is until it is decided.

import { button, element } from "./dom.js";

const LONGEST = 4000; // characters of what is shown beside the prompt

/** `send(value)` answers; its promise is rejected with a `Refusal`, whose words are shown. */
export function questionCard(part, say, send, card = null) {
  const node = card ?? element("section", "question");
  node.dataset.state = part.outcome ?? "open";
  const typed = node.querySelector(".field")?.value ?? "";
  const pieces = [element("div", "prompt", part.prompt)];
  if (part.data !== undefined && part.data !== null) pieces.push(element("pre", "", shown(part.data)));
  pieces.push(part.outcome ? element("div", "decided", decided(part, say)) : form(part, say, send, typed));
  node.replaceChildren(...pieces);
  return node;
}

function form(part, say, send, typed) {
  const wrong = element("div", "wrong");
  wrong.setAttribute("role", "alert");
  const controls = element("div", "choices");
  const answer = async (value) => {
    for (const one of controls.children) one.disabled = true;
    wrong.textContent = "";
    try {
      await send(value);
    } catch (error) {
      wrong.textContent = error.message;
      for (const one of controls.children) one.disabled = false;
    }
  };
  const choices = part.options?.map((one) => [one, one]) ?? (part.schema?.type === "boolean" ? [[say("yes"), true], [say("no"), false]] : null);
  if (choices) controls.append(...choices.map(([words, value]) => button("choice", words, () => answer(value))));
  else controls.append(...field(part, say, answer, typed));
  return element("div", "", controls, wrong);
}

function field(part, say, answer, typed) {
  const input = element("input", "field");
  input.value = typed;
  input.setAttribute("aria-label", part.prompt);
  const send = () => answer(meant(input.value, part.schema));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) send();
  });
  return [input, button("choice", say("answer"), send)];
}

/** What somebody typed: text, or JSON where the question takes more than text. */
function meant(text, schema) {
  if (!schema || schema.type === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function decided(part, say) {
  return say(`question_${part.outcome}`, shown(part.value));
}

function shown(value) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
