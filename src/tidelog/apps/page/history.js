// The questions of this thread that came before, each a link to its run.

import { get } from "./api.js";
import { plain } from "./markdown.js";
import { $, element } from "./view.js";

const LIMIT = 10;
const SNIPPET = 140;

export async function history(thread, current, say) {
  const runs = (await get(`threads/${thread}`).catch(() => ({ runs: [] }))).runs;
  // A run that was retried or continued is told by the one that took its place.
  const replaced = new Set(runs.map((run) => run.of));
  const before = runs.filter((run) => run.run !== current && !replaced.has(run.run)).slice(-LIMIT).reverse();
  const told = await Promise.all(before.map((run) => get(`runs/${run.run}/transcript`).catch(() => null)));
  $("history").replaceChildren(...told.filter(Boolean).map((transcript) => entry(transcript, say)));
  $("earlier").hidden = !$("history").children.length;
}

function entry(transcript, say) {
  const question = transcript.data.find((one) => one.name === "question")?.data ?? "…";
  const snippet = plain(transcript.text).replaceAll(/\s+/g, " ").replaceAll(/ \[\d+\]/g, "").slice(0, SNIPPET);
  const link = element("a", "", element("strong", "", question), element("span", "", snippet || say(transcript.outcome ?? "answering")));
  link.href = `#run=${transcript.run}`;
  return element("li", "", link);
}
