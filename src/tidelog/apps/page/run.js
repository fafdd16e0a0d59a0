// A run as a fold over its native frames (spec/PROTOCOL.md §2 and §3). Taking a frame twice changes nothing.

export function emptyRun(run) {
  return {
    run,
    thread: null,
    position: 0,
    question: "",
    searching: true,
    sources: [],
    text: "",
    outcome: null,
    error: null,
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

const FOLDS = {
  "run.started": (state, frame) => {
    state.thread = frame.thread;
  },
  "text.snapshot": addText,
  "text.delta": addText,
  sources: (state, frame) => {
    state.sources = state.sources.concat(frame.sources);
    state.searching = false;
  },
  data: (state, frame) => {
    if (frame.name === "question" && typeof frame.data === "string") state.question = frame.data;
  },
  "run.ended": (state, frame) => {
    state.searching = false;
    state.outcome = frame.outcome;
    state.error = frame.error ?? null;
    state.can = frame.can ?? [];
  },
};

function addText(state, frame) {
  state.text += frame.text;
  state.searching = false;
}
