// What went wrong, and what to do about it, in the language of the page. The server's own words follow where they say more.

const KNOWN = [
  "rate_limited", "too_many_runs", "too_many_viewers", "overloaded", "provider_error", "timed_out", "interrupted", "internal", "store_unavailable", "too_large",
  "thread_busy", "not_repeatable", "not_found", "expired",
];

/** What to do about an error: a Refusal, or the `error` of an ending. `partial`: it can go on. Empty where there is nothing to say. */
export function advice(error, say, { partial = false } = {}) {
  const code = error?.code;
  if (partial && error?.retryable && ["provider_error", "timed_out"].includes(code)) return say("do_interrupted");
  if (!KNOWN.includes(code)) return error?.status === 413 ? say("do_too_large") : "";
  if (code === "provider_error") return say(error.retryable ? "do_provider" : "do_model");
  const seconds = error.retry_after ?? error.retryAfter / 1000;
  return say(`do_${code}`, seconds > 0 ? Math.ceil(seconds) : null);
}

/** One or two sentences on something that could not be done. */
export function problem(error, say) {
  const told = error.status === undefined ? say("unreachable") : say("refused", error.message);
  return [told, error.status === undefined ? "" : advice(error, say)].filter(Boolean).join(" ");
}
