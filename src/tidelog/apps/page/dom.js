// The few things that every module asks of the document and of the browser's storage.

export const $ = (id) => document.getElementById(id);

/** A new element with this class and these children, which are nodes or text. */
export function element(name, kind = "", ...children) {
  const node = document.createElement(name);
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}

/** A button that submits nothing. */
export function button(kind, text, pressed) {
  const node = element("button", kind, text);
  node.type = "button";
  node.addEventListener("click", pressed);
  return node;
}

/** A link to another site. */
export function link(url, text) {
  const node = element("a", "", text);
  node.href = url;
  node.target = "_blank";
  node.rel = "noopener noreferrer";
  return node;
}

/** Sets the text where it differs: a live region that is written again is read again. */
export function tell(node, text) {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = !text;
}

// Storage may be forbidden; the page then works until it is reloaded before the first byte.
export function keep(storage, name, value) {
  try { globalThis[storage].setItem(name, JSON.stringify(value)); } catch {}
}

export function recall(storage, name) {
  try { return JSON.parse(globalThis[storage].getItem(name)); } catch { return null; }
}

export function forget(storage, name) {
  try { globalThis[storage].removeItem(name); } catch {}
}

export function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
