// The server asks who is there: a key is typed once, and the server keeps it in a cookie that no script can read.

import { $, tell } from "./dom.js";

export const ASKED = "tidelog-asked"; // an event: something was answered with 401

export class SignIn {
  #say;

  constructor({ say }) {
    this.#say = say;
    addEventListener(ASKED, () => this.#show());
    $("sign-in").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send($("key").value.trim());
    });
  }

  speak(say) {
    this.#say = say;
  }

  #show() {
    if (!$("sign-in").hidden) return;
    $("sign-in").hidden = false;
    $("ask").hidden = true;
    $("key").focus();
  }

  async #send(key) {
    const known = await fetch("sign-in", { method: "POST", headers: { Authorization: `Bearer ${key}` } }).then(
      (response) => response.ok,
      () => false, // also for characters that no header can hold
    );
    if (known) location.reload();
    else tell($("unknown"), this.#say("key_unknown"));
  }
}
