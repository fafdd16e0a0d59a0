// npm `resumable-stream` behind Node's own HTTP server: `node resumable_stream.mjs <folder of packages> <port> <Redis' port>`.
// The text stays in the process that makes it; Redis carries it to whoever resumes.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [, , packages, port, redisPort] = process.argv;
const load = createRequire(`${packages}/`);
const { createClient } = load("redis");
const { createResumableStreamContext } = load("resumable-stream/generic");

const HEADERS = { "content-type": "text/event-stream", "cache-control": "no-cache" };
const MS = 1e6;

const now = () => Number(process.hrtime.bigint()); // CLOCK_MONOTONIC, which every process on this machine shares

function frame(run, number, due) {
  const text = `${number}:${Math.round(due)};`;
  return `id: ${run}.1.${number}\ndata: {"seq":${number},"type":"text.delta","part":"p1","text":"${text}"}\n\n`;
}

async function* tokens(run, { seconds, rate }) {
  const start = now(), step = 1e9 / Number(rate), count = Math.round(Number(seconds) * Number(rate));
  for (let number = 0; number < count; number++) {
    const due = start + number * step;
    await new Promise((done) => setTimeout(done, Math.max(0, (due - now()) / MS)));
    yield frame(run, number, due);
  }
}

async function* oneToken(run) {
  yield frame(run, 0, now());
  await new Promise(() => {}); // until the viewer has gone
}

const clients = [0, 1].map(() => createClient({ url: `redis://127.0.0.1:${redisPort}/0` }));
const [publisher, subscriber] = await Promise.all(clients.map((client) => client.connect()));
const context = createResumableStreamContext({ waitUntil: null, publisher, subscriber });

async function answer(request, response) {
  const url = new URL(request.url, "http://127.0.0.1");
  const [, kind, resumed] = url.pathname.split("/");
  const run = kind === "runs" ? resumed : randomBytes(13).toString("hex");
  const text = kind === "idle" ? oneToken(run) : tokens(run, Object.fromEntries(url.searchParams));
  const make = () => ReadableStream.from(text);
  let stream = kind === "runs" ? undefined : await context.createNewResumableStream(run, make);
  if (kind === "runs" || kind === "resumed") stream = await context.resumeExistingStream(run); // as after a reload of the page
  if (!stream) return response.writeHead(404).end();
  response.writeHead(200, { ...HEADERS, "run-id": run });
  for await (const chunk of stream) response.write(chunk);
  response.end();
}

createServer((request, response) => void answer(request, response).catch(() => response.destroy()))
  .listen(Number(port), "127.0.0.1", 4096);
