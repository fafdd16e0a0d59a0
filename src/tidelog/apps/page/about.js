// What this server is: who answers, which documents, where it keeps what it is told.

import { get } from "./api.js";
import { $, button, element, tell } from "./dom.js";

const READING_EVERY = 1_000;
const KEYS = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"];

export class About {
  #found = null;
  #say;
  #mode;
  #ask;

  /** `ask(question)` for the examples. */
  constructor({ say, mode, ask }) {
    this.#say = say;
    this.#mode = mode;
    this.#ask = ask;
  }

  /** Whether a model is attached: it sets its own pace. */
  get model() {
    return this.#found?.model ?? null;
  }

  async learn() {
    this.#found = await get("about").catch(() => this.#found);
    this.show();
    if (this.#found?.documents?.state === "reading") setTimeout(() => this.learn(), READING_EVERY);
  }

  /** A run has ended: a server whose model was not known may have named it. */
  async settled() {
    if (this.model && !this.model.name) await this.learn();
  }

  speak(say) {
    this.#say = say;
    this.show();
  }

  turnTo(mode) {
    this.#mode = mode;
    this.show();
  }

  show() {
    const say = this.#say;
    $("pace").parentElement.hidden = Boolean(this.model);
    this.#banner();
    const examples = say(`examples_${this.#mode}`).map((question) => element("li", "", button("", question, () => this.#ask(question))));
    const own = Boolean(this.#found?.documents?.own);
    $("examples").replaceChildren(...(own || this.#mode === "agent" ? examples : []));
    if (!this.#found) return;
    const { version, store, documents } = this.#found;
    const kept = store?.startsWith("memory:") ? say("forgotten") : store ? say("kept", store) : "";
    const read = { reading: say("reading"), failed: say("unread") }[documents?.state] ?? "";
    tell($("about"), [`tidelog ${version}`, read, kept].filter(Boolean).join(" · "));
  }

  #answers({ name, provider, place }) {
    return name ? this.#say("model", name, this.#say(`provider_${provider}`)) : this.#say("model_unnamed", place);
  }

  #banner() {
    const [say, model] = [this.#say, this.model];
    $("attach").hidden = !this.#found || Boolean(model);
    if (!this.#found) return tell($("answerer"), "");
    tell($("answerer"), model ? this.#answers(model) : say(`built_in_${this.#mode}`));
    $("how").replaceChildren(...say("attach", ...KEYS).map((piece) => (KEYS.includes(piece) ? element("code", "", piece) : piece)));
  }
}
