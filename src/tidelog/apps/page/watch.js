// Watches one run: a cursor that comes back by itself, from where it stands, until the run has ended. It only ever reads.

import { get, refusal } from "./api.js";
import { emptyRun, take } from "./run.js";
import { EventStream } from "./sse.js";

const SILENCE = 30_000; // two heartbeats: no bytes for so long means that the connection is dead
const DOUBT = 2_000; // on return from sleep, a connection that has been silent for so long is not trusted
const FIRST_WAIT = 400;
const LONGEST_WAIT = 15_000;

export class Watch {
  #changed;
  #linked;
  #attempt = null;
  #nap = null;
  #closed = false;
  #heard = 0;
  #hint = null;
  #soon = false;

  /** `changed(state)` after every batch of frames; `linked(live, refusal)` when the connection comes, goes or is refused. */
  constructor(run, { changed, linked }) {
    this.state = emptyRun(run);
    this.#changed = changed;
    this.#linked = linked;
  }

  async follow() {
    for (let failures = 0; !this.#done; failures++) {
      const before = this.state.position;
      let wait = null;
      try {
        wait = await this.#read();
      } catch (error) {
        if (this.#closed) return;
        if (error.final) return this.#linked(false, error);
        wait = error.retryAfter || null;
      }
      if (this.#soon) wait = 0;
      this.#soon = false;
      if (this.#done) return;
      if (this.state.position > before) failures = 0;
      this.#linked(false);
      await this.#rest(wait ?? backoff(failures));
    }
  }

  /** Look again at once: the page was hidden, asleep or offline. */
  wake() {
    if (this.#nap) this.#nap();
    else if (this.#attempt && performance.now() - this.#heard > DOUBT) {
      this.#soon = true;
      this.#attempt.abort();
    }
  }

  close() {
    this.#closed = true;
    this.#attempt?.abort();
    this.#nap?.();
  }

  get #done() {
    return this.#closed || this.state.outcome !== null;
  }

  /** One connection. Resolves when it ends: with the time to wait that the server asked for, or null. */
  async #read() {
    const attempt = (this.#attempt = new AbortController());
    let guard;
    const alive = () => {
      this.#heard = performance.now();
      clearTimeout(guard);
      guard = setTimeout(() => attempt.abort(), SILENCE);
    };
    alive();
    this.#hint = null;
    try {
      const response = await fetch(`runs/${this.state.run}/events?after=${this.state.position}`, {
        headers: { Accept: "text/event-stream" },
        cache: "no-store",
        signal: attempt.signal,
      });
      if (response.status === 204) return await this.#settle();
      if (!response.ok) throw await refusal(response);
      if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return null; // a captive portal
      this.#linked(true);
      await this.#take(response.body.getReader(), alive);
      return this.#hint;
    } finally {
      clearTimeout(guard);
      attempt.abort(); // frees the connection where a frame was refused
    }
  }

  async #take(reader, alive) {
    const stream = new EventStream();
    while (!this.#done) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      const results = stream.feed(value).map((block) => this.#fold(block));
      if (results.includes("taken")) this.#changed(this.state);
      if (results.includes("gap")) return;
    }
  }

  #fold(block) {
    if (block.data === null) return "known";
    const frame = JSON.parse(block.data);
    if (frame.type === "reconnect" || frame.type === "reauth") this.#hint = frame.retry;
    return take(this.state, frame);
  }

  /** Nothing is left to read, and yet no ending was seen: the run's own state tells it. */
  async #settle() {
    const found = await get(`runs/${this.state.run}`);
    if (found.state === "ended") {
      take(this.state, { ...found, type: "run.ended", seq: this.state.position + 1 });
      this.#changed(this.state);
    }
    return null;
  }

  #rest(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#nap(), ms);
      this.#nap = () => {
        clearTimeout(timer);
        this.#nap = null;
        resolve();
      };
    });
  }
}

/** Between half and the whole of a time that doubles, so that a thousand pages do not come back together. */
export function backoff(failures) {
  return Math.min(FIRST_WAIT * 2 ** failures, LONGEST_WAIT) * (0.5 + Math.random() / 2);
}
