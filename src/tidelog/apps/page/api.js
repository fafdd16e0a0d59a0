// What the page asks of the server, besides watching. Addresses are relative: the page works below any prefix.

import { ASKED } from "./signin.js";

const START_TIMEOUT = 30_000;
const UPLOAD_TIMEOUT = 600_000;
const RUN_PATH = /\/runs\/([A-Za-z0-9_-]{1,64})$/;

export const MODES = ["rag", "chat", "agent"];

/** The server's answer to something that it refused; `message` may be shown. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.run = problem.run ?? null; // thread_busy: the run at work
    this.final = status < 500 && status !== 429 && status !== 408;
    this.retryable = problem.retryable ?? !this.final;
    this.retryAfter = Number(problem.retry_after) * 1000 || 0;
  }
}

export async function refusal(response) {
  if (response.status === 401) dispatchEvent(new Event(ASKED));
  const problem = (await response.json().catch(() => null)) ?? {};
  if (typeof problem.detail !== "string") delete problem.detail; // FastAPI's own validation errors are a list
  problem.retry_after ??= response.headers.get("retry-after");
  return new Refusal(response.status, problem);
}

/** Starts the run that this key names, or finds it: sent twice, it is still one run. */
export function start({ key, mode, thread, ...ask }) {
  const headers = { "Content-Type": "application/json", Prefer: "respond-async", "Idempotency-Key": key };
  if (thread) headers["Thread-Id"] = thread;
  return json(mode, { method: "POST", headers, body: JSON.stringify(ask) });
}

export function verb(run, name) {
  return json(`runs/${run}/${name}`, { method: "POST" });
}

/** Answers a question of a run. Rejected with a `Refusal`: 409 where somebody else was first, 422 for what does not fit. */
export function answer(run, question, value) {
  const headers = { "Content-Type": "application/json" };
  return json(`runs/${run}/answer`, { method: "POST", headers, body: JSON.stringify({ question, value }) });
}

export function get(path) {
  return json(path, {});
}

/** Sends files; resolves to the run that reads them. Sent once only: nobody can tell two uploads of one file apart. */
export async function upload(files) {
  const body = new FormData();
  for (const file of files) body.append("files", file, file.name);
  const signal = AbortSignal.timeout(UPLOAD_TIMEOUT);
  const response = await fetch("documents", { method: "POST", body, signal });
  if (!response.ok) throw await refusal(response);
  const run = RUN_PATH.exec(new URL(response.headers.get("location"), location.href).pathname)?.[1];
  if (!run) throw new Error("no run");
  return run;
}

export async function remove(path) {
  const response = await fetch(path, { method: "DELETE", signal: AbortSignal.timeout(START_TIMEOUT) });
  if (!response.ok) throw await refusal(response);
}

/** A random name for a start. `randomUUID` exists only on https and localhost, and the page may be on neither. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function json(path, options) {
  const headers = { Accept: "application/json", ...options.headers };
  const signal = AbortSignal.timeout(START_TIMEOUT);
  const response = await fetch(path, { cache: "no-store", ...options, headers, signal });
  if (!response.ok) throw await refusal(response);
  return response.json();
}
