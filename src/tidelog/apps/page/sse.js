// Parses an event stream as the HTML standard says (9.2.6): bytes in, {id, event, data, retry} out.
// A block that holds only an id or a retry comes out too, with data null.

const MAX_LINE = 8 * 1024 * 1024;
const LINE_END = /\r\n|\r|\n/;

export class EventStream {
  #decoder = new TextDecoder();
  #rest = "";
  #afterCr = false;
  #block = fresh();

  /** The blocks that these bytes complete. Throws for a line longer than any that tidelog writes. */
  feed(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return [];
    // A CR at the end of the last chunk has ended its line; the LF of a CRLF may come only now.
    if (this.#afterCr && text[0] === "\n") text = text.slice(1);
    this.#afterCr = text.endsWith("\r");
    const lines = (this.#rest + text).split(LINE_END);
    this.#rest = lines.pop();
    if (this.#rest.length > MAX_LINE) throw new Error("a line without end");
    return lines.map((line) => this.#take(line)).filter(Boolean);
  }

  #take(line) {
    if (line === "") return this.#complete();
    const colon = line.indexOf(":");
    if (colon === 0) return null; // a comment: the heartbeat
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    const block = this.#block;
    if (name === "data") block.lines.push(value);
    else if (name === "event") block.event = value;
    else if (name === "id" && !value.includes("\0")) block.id = value;
    else if (name === "retry" && /^\d+$/.test(value)) block.retry = Number(value);
    return null;
  }

  #complete() {
    const { lines, event, id, retry } = this.#block;
    this.#block = fresh();
    if (!lines.length && id === null && retry === null) return null;
    return { id, event, retry, data: lines.length ? lines.join("\n") : null };
  }
}

function fresh() {
  return { lines: [], event: "", id: null, retry: null };
}
