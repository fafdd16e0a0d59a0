// Node's own HTTP server, one write for each event: `node node_http.mjs <port>`.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";

const HEADERS = { "content-type": "text/event-stream", "cache-control": "no-cache" };
const MS = 1e6;

const now = () => Number(process.hrtime.bigint()); // CLOCK_MONOTONIC, which every process on this machine shares
const runId = () => randomBytes(13).toString("hex");

function frame(run, number, due, padding) {
  const text = `${number}:${Math.round(due)};${padding}`;
  return `id: ${run}.1.${number}\ndata: {"seq":${number},"type":"text.delta","part":"p1","text":"${text}"}\n\n`;
}

function stream(answer, { seconds, rate, pad = "0" }) {
  const run = runId(), start = now(), step = 1e9 / Number(rate), padding = "x".repeat(Number(pad));
  const count = Math.round(Number(seconds) * Number(rate));
  let number = 0, timer;
  function next() {
    const due = start + number * step;
    answer.write(frame(run, number, due, padding));
    if (++number >= count) answer.end();
    else timer = setTimeout(next, Math.max(0, (start + number * step - now()) / MS));
  }
  answer.on("close", () => clearTimeout(timer));
  next();
}

const viewers = new Set();

function begin({ start, count, rate, burst, pad }) {
  const run = runId(), from = Number(start) || now(), total = Number(count), many = Number(burst);
  const step = Number(rate) ? (1e9 * many) / Number(rate) : 0, padding = "x".repeat(Number(pad));
  let number = 0;
  function next() {
    const due = from + (number / many) * step;
    for (let i = 0; i < many && number < total; i++, number++) {
      const bytes = Buffer.from(frame(run, number, due, padding));
      for (const viewer of viewers) viewer.write(bytes);
    }
    if (number < total) wait();
    else for (const viewer of viewers) viewer.end();
  }
  const wait = () => setTimeout(next, Math.max(0, (from + (number / many) * step - now()) / MS));
  wait();
}

const server = createServer((request, answer) => {
  const url = new URL(request.url, "http://127.0.0.1"), query = Object.fromEntries(url.searchParams);
  if (request.method === "POST") {
    begin(query);
    answer.writeHead(202).end();
    return;
  }
  answer.writeHead(200, HEADERS);
  if (url.pathname === "/stream") stream(answer, query);
  else if (url.pathname === "/idle") answer.write(frame(runId(), 0, now(), ""));
  else {
    answer.flushHeaders();
    viewers.add(answer);
    answer.on("close", () => viewers.delete(answer));
  }
});
server.listen(Number(process.argv[2]), "127.0.0.1", 4096);
