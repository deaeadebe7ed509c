// What was measured, over the training rounds: a small chart for each metric, and the same numbers as a table.

import { el, number, svg, table } from "./parts.js";

const SHOWN = 4; // charts beside each other that a screen has room for
const WIDTH = 340, HEIGHT = 170, LEFT = 58, RIGHT = 12, TOP = 12, BOTTOM = 24;
const FIRST = ["accuracy", "loss"];
const SPENT = "privacy spent (epsilon)"; // beside what was measured, since the one is bought with the other
const KINDS = [["evaluate", "evaluation"], ["train", "training"], ["reply", "replies"]];

export function curves(view) {
  const measured = metricsOf(view.rounds_held);
  const names = [...measured.keys()].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  if (!names.length) return [];
  const figures = names.map((name) => figure(name, measured.get(name), view.rounds));
  return [el("section", { "aria-labelledby": "measured" },
    el("h2", { id: "measured" }, "What was measured"),
    el("div", { class: "charts" }, figures.slice(0, SHOWN)),
    figures.length > SHOWN
      ? el("details", {}, el("summary", {}, `${figures.length - SHOWN} more metrics`), el("div", { class: "charts" }, figures.slice(SHOWN))) : null,
    el("details", {}, el("summary", {}, "The same as a table"), numbers(names, measured)))];
}

function rank(name) {
  if (name === SPENT) return FIRST.length - 0.5;
  const place = FIRST.findIndex((known) => new RegExp(`(^|[^a-z])${known}$`).test(name));
  return place < 0 ? FIRST.length : place;
}

// name -> kind -> [[training round, value]]; a training round that was tried again counts with its last result
function metricsOf(rounds) {
  const found = new Map();
  for (const round of rounds) {
    const spent = round.epsilon === null ? {} : { [SPENT]: round.epsilon };
    for (const [name, value] of Object.entries({ ...round.metrics, ...spent })) {
      if (!found.has(name)) found.set(name, new Map());
      const kinds = found.get(name);
      if (!kinds.has(round.task)) kinds.set(round.task, new Map());
      kinds.get(round.task).set(round.training_round, value);
    }
  }
  return found;
}

function figure(name, kinds, rounds) {
  const series = KINDS.filter(([kind]) => kinds.has(kind)).map(([kind, said]) => ({ kind, said, points: [...kinds.get(kind)].sort((a, b) => a[0] - b[0]) }));
  const last = series[0]?.points.at(-1);
  return el("figure", { "data-key": name, "aria-label": name },
    el("figcaption", {}, el("span", { class: "metric-name" }, name), el("strong", {}, last ? number(last[1]) : "")),
    chart(name, series, rounds),
    el("ul", { class: "legend" }, series.map(({ kind, said }) => el("li", { "data-key": kind }, key(kind), said))));
}

function key(kind) {
  return svg("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true", class: `line ${kind}` },
    svg("path", { d: "M1 5H25" }), marker(kind, 13, 5));
}

function marker(kind, x, y) {
  return kind === "train" ? svg("rect", { x: x - 2.5, y: y - 2.5, width: 5, height: 5 }) : svg("circle", { cx: x, cy: y, r: 3 });
}

function chart(name, series, rounds) {
  const values = series.flatMap(({ points }) => points.map(([, value]) => value));
  const steps = ticks(Math.min(...values), Math.max(...values));
  const [low, high] = [steps[0], steps.at(-1)];
  const first = Math.min(1, ...series.flatMap(({ points }) => points.map(([at]) => at)));
  const end = Math.max(rounds, first + 1, ...series.flatMap(({ points }) => points.map(([at]) => at)));
  const x = (at) => LEFT + ((at - first) / (end - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const grid = steps.map((step) => svg("g", { class: "grid" },
    svg("path", { d: `M${LEFT} ${y(step).toFixed(1)}H${WIDTH - RIGHT}` }),
    svg("text", { x: LEFT - 6, y: (y(step) + 3.5).toFixed(1), "text-anchor": "end" }, number(step))));
  const axis = [first, end].map((at, place) =>
    svg("text", { class: "tick", x: x(at).toFixed(1), y: HEIGHT - 6, "text-anchor": place ? "end" : "start" }, place ? `round ${at}` : String(at)));
  const lines = series.map(({ kind, points }) => svg("g", { class: `line ${kind}` },
    svg("path", { d: points.map(([at, value], place) => `${place ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("") }),
    (points.length <= 30 ? points : points.slice(-1)).map(([at, value]) => marker(kind, Number(x(at).toFixed(1)), Number(y(value).toFixed(1))))));
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spoken(name, series) }, grid, axis, lines.reverse());
}

function spoken(name, series) {
  const parts = series.map(({ said, points }) => {
    const [from, to] = [points[0], points.at(-1)];
    return points.length > 1
      ? `${said} from ${number(from[1])} in round ${from[0]} to ${number(to[1])} in round ${to[0]}` : `${said} ${number(to[1])} in round ${to[0]}`;
  });
  return `${name}: ${parts.join("; ")}`;
}

// Round numbers between which all values lie, three to six of them
function ticks(low, high) {
  if (low === high) { const by = Math.abs(low) || 1; return [low - by / 2, low, low + by / 2]; }
  const raw = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((by) => by * power).find((size) => size >= raw);
  const found = [];
  for (let at = Math.floor(low / step); at <= Math.ceil(high / step); at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}

function numbers(names, measured) {
  const shown = names.slice(0, 2 * SHOWN);
  const columns = shown.flatMap((name) => KINDS.filter(([kind]) => measured.get(name).has(kind)).map(([kind, said]) => ({ name, kind, said })));
  const rounds = [...new Set(columns.flatMap(({ name, kind }) => [...measured.get(name).get(kind).keys()]))].sort((a, b) => a - b);
  return table("What was measured in each training round", ["Training round", ...columns.map(({ name, said }) => `${name}, ${said}`)],
    rounds.map((round) => ({ key: round, cells: [String(round), ...columns.map(({ name, kind }) => number(measured.get(name).get(kind).get(round)))] })));
}
