// A run as a fold over its native frames (spec/PROTOCOL.md §2 and §3). Taking a frame twice changes nothing.

export function emptyRun(run) {
  return {
    run,
    thread: null,
    position: 0,
    doing: "running", // or queued, paused, waiting
    sources: [],
    parts: [], // {kind: "text" | "reasoning", id, text, done} and {kind: "tool", id, name, json, input, outcome, output, error}
    // and {kind: "question", id, prompt, options, schema, data, outcome, value}
    text: "",
    data: {}, // the last one of each name
    progress: null, // the last one
    queued: null, // its place in the queue, while it waits there
    finish: null,
    outcome: null,
    error: null,
    usage: null,
    can: [],
  };
}

/** Folds one frame in. "taken", "known" (at or before the position), or "gap": something between is missing. */
export function take(state, frame) {
  if (typeof frame.seq !== "number" || frame.seq <= state.position) return "known";
  // Numbers are dense, so loss can be seen; a frame that begins before the position would double its text.
  if ((frame.from ?? frame.seq) !== state.position + 1) return "gap";
  FOLDS[frame.type]?.(state, frame);
  state.position = frame.seq;
  return "taken";
}

/** The same state, from the transcript of a run that has ended. */
export function fromTranscript(transcript) {
  const { run, thread, last_seq: position, sources, text, outcome, error, usage, can, finish } = transcript;
  const known = { thread, position, sources, text, outcome, error, usage, can, finish: finish ? { reason: finish } : null };
  const state = Object.assign(emptyRun(run), known);
  for (const { type, ...part } of transcript.message.parts) state.parts.push({ ...EMPTY[type]?.(part), ...part, kind: type });
  for (const one of transcript.data) if (one.name) state.data[one.name] = one.data;
  return state;
}

const EMPTY = {
  text: () => ({ text: "" }),
  reasoning: () => ({ text: "" }),
  tool: ({ id, name }) => newTool(id, name),
  question: newQuestion,
};

const FOLDS = {
  "run.started": (state, frame) => {
    state.thread = frame.thread;
  },
  "run.state": (state, frame) => {
    state.doing = frame.state;
    state.queued = frame.position ?? null;
  },
  "text.snapshot": addText,
  "text.delta": addText,
  "text.ended": (state, frame) => {
    part(state, "text", frame.part).done = true;
  },
  "reasoning.delta": (state, frame) => {
    part(state, "reasoning", frame.part).text += frame.text;
  },
  "reasoning.ended": (state, frame) => {
    part(state, "reasoning", frame.part).done = true;
  },
  "tool.started": (state, frame) => {
    state.parts.push(newTool(frame.call, frame.name));
  },
  "tool.input.delta": (state, frame) => {
    part(state, "tool", frame.call).json += frame.json;
  },
  "tool.input": (state, frame) => {
    part(state, "tool", frame.call).input = frame.input;
  },
  "tool.ended": (state, frame) => {
    const { outcome, output, error } = frame;
    Object.assign(part(state, "tool", frame.call), { outcome, output, error });
  },
  "question.asked": (state, frame) => {
    state.parts.push(newQuestion({ ...frame, id: frame.question }));
  },
  "question.answered": (state, frame) => {
    const found = state.parts.find((one) => one.kind === "question" && one.id === frame.question);
    if (found) Object.assign(found, { outcome: frame.outcome, value: frame.value });
  },
  sources: (state, frame) => {
    state.sources = state.sources.concat(frame.sources);
  },
  progress: (state, frame) => {
    state.progress = frame;
  },
  data: (state, frame) => {
    if (frame.name) state.data[frame.name] = frame.data;
  },
  usage: (state, frame) => {
    state.usage = frame;
  },
  finish: (state, frame) => {
    state.finish = frame;
  },
  "run.ended": (state, frame) => {
    state.outcome = frame.outcome;
    state.error = frame.error ?? null;
    state.usage = frame.usage ?? null;
    state.can = frame.can ?? [];
  },
};

function addText(state, frame) {
  part(state, "text", frame.part).text += frame.text;
  state.text += frame.text;
}

function part(state, kind, id) {
  let found = state.parts.find((one) => one.kind === kind && one.id === id);
  if (!found) state.parts.push((found = kind === "tool" ? newTool(id, id) : { kind, id, text: "", done: false }));
  return found;
}

function newQuestion({ id, prompt, options = null, schema = null, data = null }) {
  return { kind: "question", id, prompt, options, schema, data, outcome: null, value: null };
}

function newTool(id, name) {
  return { kind: "tool", id, name, json: "", input: undefined, outcome: null, output: undefined, error: null };
}
