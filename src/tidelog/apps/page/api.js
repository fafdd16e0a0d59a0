// What the page asks of the server, besides watching. Addresses are relative: the page works below any prefix.

const START_TIMEOUT = 30_000;

/** The server's answer to something that it refused; `message` may be shown. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.final = status < 500 && status !== 429 && status !== 408;
    this.retryAfter = Number(problem.retry_after) * 1000 || 0;
  }
}

export async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  if (typeof problem.detail !== "string") delete problem.detail; // FastAPI's own validation errors are a list
  problem.retry_after ??= response.headers.get("retry-after");
  return new Refusal(response.status, problem);
}

/** Starts the run that this key names, or finds it: sent twice, it is still one run. */
export function start({ key, thread, ...ask }) {
  const headers = { "Content-Type": "application/json", Prefer: "respond-async", "Idempotency-Key": key };
  if (thread) headers["Thread-Id"] = thread;
  return json("rag", { method: "POST", headers, body: JSON.stringify(ask) });
}

export function verb(run, name) {
  return json(`runs/${run}/${name}`, { method: "POST" });
}

export function get(path) {
  return json(path, {});
}

async function json(path, options) {
  const headers = { Accept: "application/json", ...options.headers };
  const signal = AbortSignal.timeout(START_TIMEOUT);
  const response = await fetch(path, { cache: "no-store", ...options, headers, signal });
  if (!response.ok) throw await refusal(response);
  return response.json();
}
