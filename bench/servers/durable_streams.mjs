// Durable Streams' own server, in memory: `node durable_streams.mjs <folder of node_modules> <port>`.
import { createRequire } from "node:module";

const [, , packages, port] = process.argv;
const { DurableStreamTestServer } = createRequire(`${packages}/`)("@durable-streams/server");

await new DurableStreamTestServer({ host: "127.0.0.1", port: Number(port), compression: false }).start();
