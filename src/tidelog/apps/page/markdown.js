// Paints the small markdown of an answer: paragraphs, lists, code, tables, citations. Text only ever becomes text nodes.

const FENCE = /^\s*(`{3,}|~{3,})\s*([^`]*)$/;
const ITEM = /^(\s*)([-*+•]|\d{1,9}[.)]|\d{1,2}、)\s+(.*)$/;
const RULE = /^\s*\|?[\s:|-]*-[\s:|-]*$/;
const INLINE = /(`+)(?!`)(.+?)(?<!`)\1(?!`)|\*\*(\S.*?)\*\*|\[([^\[\]]+)\]\((https?:\/\/[^\s()]+)\)|(?<=^|\s)\[(\d{1,2})\](?!\()/gs;

/** Makes `root` show `text`; what is shown already and stays the same is not touched. `cite(n)` makes the mark of a source. */
export function paint(root, text, cite) {
  const blocks = split(text);
  blocks.forEach((block, at) => {
    const old = root.children[at];
    const print = JSON.stringify(block);
    if (old?.print === print) return;
    const node = MAKERS[block.kind](block, cite);
    node.print = print;
    if (old) old.replaceWith(node);
    else root.append(node);
  });
  while (root.children.length > blocks.length) root.lastElementChild.remove();
}

/** The text without the marks of lists, code and tables: for places too small to show them as such. */
export function plain(text) {
  return text
    .split("\n")
    .filter((line) => !/^\s*(?:`{3,}|~{3,})/.test(line) && !/^[\s:|-]*-[\s:|-]*$/.test(line))
    .map((line) => line.replace(/^\s*[-*+•]\s+/, "").replace(/^\s*\||\|\s*$/g, "").replaceAll(/\s*\|\s*/g, " · "))
    .map((line) => line.replace(/^[\s·]+|[\s·]+$/g, "").replaceAll(/`([^`]+)`/g, "$1").replaceAll("**", ""))
    .filter(Boolean)
    .join("\n");
}

/** The text as blocks: {kind: "prose" | "list" | "code" | "table", …}. An unfinished text is cut as if it ended there. */
export function split(text) {
  const lines = text.split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const taker = FENCE.test(lines[at]) ? code : ITEM.test(lines[at]) ? list : /^\s*\|/.test(lines[at]) ? table : prose;
    const [block, next] = taker(lines, at);
    blocks.push(block);
    at = next;
  }
  return blocks;
}

function code(lines, at) {
  const [, mark] = FENCE.exec(lines[at]);
  let end = at + 1;
  while (end < lines.length && !(lines[end].trim().startsWith(mark) && !lines[end].trim().replaceAll(mark[0], ""))) end++;
  return [{ kind: "code", text: lines.slice(at + 1, end).join("\n") }, end + 1];
}

function list(lines, at) {
  const numbered = (marker) => /^\d/.test(marker);
  const first = ITEM.exec(lines[at])[2];
  const items = [];
  let end = at;
  for (; end < lines.length && lines[end].trim() && !FENCE.test(lines[end]); end++) {
    const found = ITEM.exec(lines[end]);
    if (found && numbered(found[2]) !== numbered(first)) break;
    if (found) items.push({ number: Number.parseInt(found[2], 10), text: found[3] });
    else items.at(-1).text += `\n${lines[end].trim()}`;
  }
  return [{ kind: "list", numbered: numbered(first), items }, end];
}

function table(lines, at) {
  let end = at;
  while (end < lines.length && /^\s*\|/.test(lines[end])) end++;
  const rows = lines.slice(at, end);
  const headed = rows.length > 1 && RULE.test(rows[1]);
  const cells = rows.filter((row) => !RULE.test(row)).map(cellsOf);
  return [{ kind: "table", headed: headed && cells[0].some(Boolean), rows: headed && !cells[0].some(Boolean) ? cells.slice(1) : cells }, end];
}

function cellsOf(row) {
  const bare = row.trim().replace(/^\|/, "").replace(/\|$/, "");
  return bare.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function prose(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !FENCE.test(lines[end]) && !/^\s*\|/.test(lines[end])) end++;
  return [{ kind: "prose", text: lines.slice(at, end).join("\n") }, end];
}

const MAKERS = {
  prose: (block, cite) => {
    const node = inline(make("p"), block.text, cite);
    if (/^\[\d{1,2}\]$/.test(block.text)) node.className = "lone"; // the source of the code or table above
    return node;
  },
  code: (block) => make("pre", make("code", block.text)),
  list: (block, cite) =>
    make(
      block.numbered ? "ol" : "ul",
      ...block.items.map((item) => {
        const node = inline(make("li"), item.text, cite);
        if (block.numbered) node.value = item.number;
        return node;
      }),
    ),
  table: (block, cite) => {
    const row = (cells, name) => make("tr", ...cells.map((cell) => inline(make(name), cell, cite)));
    const body = make("tbody", ...block.rows.slice(block.headed ? 1 : 0).map((cells) => row(cells, "td")));
    const head = block.headed ? [make("thead", row(block.rows[0], "th"))] : [];
    const frame = make("div", make("table", ...head, body));
    frame.className = "table";
    return frame;
  },
};

function inline(node, text, cite) {
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    const before = text.slice(at, found.index);
    const made = mark(found, cite);
    // A citation stays with the word before it, at the end of a line too.
    node.append(found[6] && made !== found[0] ? before.replace(/ $/, "\u202f") : before, made);
    at = found.index + found[0].length;
  }
  node.append(text.slice(at));
  return node;
}

function mark([whole, , codeText, strong, label, url, number], cite) {
  if (codeText !== undefined) return make("code", codeText);
  if (strong !== undefined) return inline(make("strong"), strong, cite);
  if (number !== undefined) return cite(Number(number)) ?? whole;
  const link = make("a", label);
  link.href = url;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  return link;
}

function make(name, ...children) {
  const node = document.createElement(name);
  node.append(...children);
  return node;
}
