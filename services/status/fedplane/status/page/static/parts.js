// What every view is drawn with: elements, their renewal in place, numbers and times as people say them, and pages of long lists.
//
// Whatever comes from clusters and users gets into the page as text nodes and attributes, never as markup.
// A view is drawn anew whenever something changed; `renew` then changes what differs and leaves the rest,
// so that focus, scroll positions and a screen reader's place stay where they are.

export const ROWS = 50; // a page of a list: two screens, drawn in milliseconds

const SVG = "http://www.w3.org/2000/svg";
const HANDLERS = ["onclick", "oninput", "onchange"];

export function el(tag, given = {}, ...children) {
  return filled(document.createElement(tag), given, children);
}

export function svg(tag, given = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), given, children);
}

function filled(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (HANDLERS.includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export function renew(parent, fresh) {
  const wanted = [...fresh];
  wanted.forEach((want, place) => {
    const have = parent.childNodes[place];
    if (!have) parent.append(want);
    else if (!alike(have, want)) have.replaceWith(want);
    else if (have.nodeType === Node.TEXT_NODE) { if (have.data !== want.data) have.data = want.data; }
    else renewElement(have, want);
  });
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

function alike(have, want) {
  return have.nodeName === want.nodeName && have.nodeType === want.nodeType && (have.dataset?.key === want.dataset?.key);
}

function renewElement(have, want) {
  for (const { name, value } of [...want.attributes]) if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  for (const { name } of [...have.attributes]) if (!want.hasAttribute(name) && name !== "open" && name !== "data-shown") have.removeAttribute(name);
  for (const handler of HANDLERS) if (have[handler] !== want[handler]) have[handler] = want[handler];
  if (have.type === "radio" && have.checked !== want.checked) have.checked = want.checked;
  renew(have, want.childNodes);
  if (have.nodeName === "SELECT") {
    const chosen = [...want.options].find((option) => option.hasAttribute("selected"));
    if (chosen && have.value !== chosen.value && document.activeElement !== have) have.value = chosen.value;
  }
}

// Numbers and times

export function number(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export function count(value, what) {
  return `${value.toLocaleString("en")} ${what}${value === 1 ? "" : "s"}`;
}

export function span(seconds) {
  if (seconds <= 0) return "0 s";
  if (seconds < 1) return `${Math.ceil(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function ago(at, now) {
  const seconds = (now - Date.parse(at)) / 1000;
  if (seconds < 10) return "just now";
  const [value, unit] = span(seconds).split(" ");
  return `${value} ${unit} ago`;
}

export function clock(at) {
  return new Date(at).toLocaleTimeString("en-GB");
}

export function time(at, text) {
  return el("time", { datetime: at, title: new Date(at).toLocaleString("en-GB") }, text ?? clock(at));
}

export function bytes(value) {
  const steps = ["bytes", "kB", "MB", "GB"];
  const step = Math.min(steps.length - 1, Math.floor(Math.log10(Math.max(1, value)) / 3));
  return `${number(value / 1000 ** step)} ${steps[step]}`;
}

// A word with a sign before it, so that colour is never the only difference

const SIGNS = {
  Waiting: "◷", Running: "▶", Completed: "✓", Failed: "✕",
  answered: "✓", working: "…", late: "◷", declined: "✕", rejected: "⊘", abandoned: "–",
  chosen: "✓", refused: "⊘", heard: "●", silent: "○", unavailable: "⊘",
};

export function word(kind, text = kind) {
  return el("span", { class: `word ${kind.toLowerCase()}` }, el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind] ?? "•"), text);
}

// Tables whose cells know their column, which is what a narrow screen shows them with.
// Their roles are said, since a browser forgets them where rows are shown as cards.

export function table(caption, columns, rows, more = {}) {
  const head = columns.map((column) => el("th", { scope: "col", role: "columnheader" }, column));
  const named = columns.map((column) => (typeof column === "string" ? column : column.dataset?.name ?? ""));
  const body = rows.map(({ key, cells }) =>
    el("tr", { "data-key": key, role: "row" }, cells.map((cell, place) =>
      place === 0 ? el("th", { scope: "row", role: "rowheader", "data-name": named[0] }, cell) : el("td", { role: "cell", "data-name": named[place] }, cell))));
  return el("div", { class: "scroll" },
    el("table", { role: "table", ...more }, el("caption", { class: "unseen" }, caption),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, head)), el("tbody", { role: "rowgroup" }, body)));
}

// Which page of a list is shown, and what of it. Each list has one of these as long as its view is open.

export function listing() {
  return { page: 0, text: "", kind: "all" };
}

export function paged(state, items) {
  const pages = Math.max(1, Math.ceil(items.length / ROWS));
  const page = Math.min(state.page, pages - 1);
  return { page, pages, total: items.length, items: items.slice(page * ROWS, (page + 1) * ROWS), first: page * ROWS };
}

export function pager(state, shown, redraw) {
  if (shown.pages < 2) return null;
  const turn = (by) => () => { state.page = shown.page + by; redraw(); };
  return el("div", { class: "pager", role: "group", "aria-label": "Pages of the list" },
    el("button", { type: "button", disabled: shown.page === 0, onclick: turn(-1) }, "Previous"),
    el("span", {}, `${shown.first + 1} to ${shown.first + shown.items.length} of ${shown.total.toLocaleString("en")}`),
    el("button", { type: "button", disabled: shown.page === shown.pages - 1, onclick: turn(1) }, "Next"));
}

export function searchbox(label, state, redraw) {
  return el("label", { class: "field" }, label,
    el("input", { type: "search", spellcheck: "false", autocomplete: "off", oninput: (event) => { state.text = event.target.value; state.page = 0; redraw(); } }));
}

export function chooser(label, options, value, choose) {
  return el("label", { class: "field" }, label,
    el("select", { onchange: (event) => choose(event.target.value) },
      options.map(([key, text]) => el("option", { value: key, selected: key === value }, text))));
}
