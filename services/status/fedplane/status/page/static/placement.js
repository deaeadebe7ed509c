// Why each cluster takes part in a run, or does not: the filter that refused it, or every term of its score.

import { chooser, el, listing, number, paged, pager, searchbox, svg, table, word } from "./parts.js";
import { lookAtPlacement } from "./store.js";

const WIDTH = 120; // of a score's bar, in its own units

export function placementSection(redraw) {
  const list = listing();

  return (line) => {
    const held = lookAtPlacement(line);
    const body = held.body;
    return [el("section", { "aria-labelledby": "placement" },
      el("h2", { id: "placement" }, "Why these clusters"),
      ...(body ? judged(body, list, redraw) : [el("p", { class: "quiet" }, held.error || "Reading the placement.")]))];
  };
}

function judged(body, list, redraw) {
  if (!body.clusters.length) return [el("p", { class: "empty" }, "The scheduler has not looked at any cluster for this run yet.")];
  const found = body.clusters.filter((each) =>
    (list.kind === "all" || (list.kind === "chosen") === each.chosen) && each.cluster.includes(list.text.trim().toLowerCase()));
  const shown = paged(list, found);
  const most = Math.max(0.001, ...body.clusters.map((each) => parts(each).reduce((sum, part) => sum + part.points, 0)));
  return [
    body.clusters.length > 8 ? el("div", { class: "fields" }, searchbox("Find a cluster", list, redraw),
      chooser("Show", [["all", "all clusters"], ["chosen", "those that take part"], ["refused", "those that do not"]], list.kind, (kind) => { list.kind = kind; list.page = 0; redraw(); })) : null,
    table("Why each cluster takes part or not", ["Cluster", "Verdict", "Score", "Why"], shown.items.map((each) => row(each, most)), { class: "placement" }),
    pager(list, shown, redraw),
  ].filter(Boolean);
}

function row(each, most) {
  const terms = each.terms.map((term, place) => el("li", { "data-key": term.criterion }, swatch(place), `${term.criterion} ${number(Number(term.score.toFixed(3)))} × ${number(term.weight)}`));
  return {
    key: each.cluster,
    cells: [
      each.cluster,
      word(each.chosen ? "chosen" : "refused", each.chosen ? "takes part" : `not: ${each.reason}`),
      each.score === null ? "" : [bar(each, most), el("span", { class: "figure" }, each.score.toFixed(2))],
      [each.message ? el("p", {}, each.message) : "", terms.length ? el("ul", { class: "terms" }, terms) : ""],
    ],
  };
}

function swatch(place) {
  return svg("svg", { viewBox: "0 0 8 8", width: 8, height: 8, "aria-hidden": "true" }, svg("rect", { class: `part p${place % 5}`, width: 8, height: 8, rx: 1.5 }));
}

function parts(each) {
  return each.terms.map((term) => ({ criterion: term.criterion, points: Math.max(0, term.score * term.weight) }));
}

function bar(each, most) {
  let x = 0;
  const drawn = parts(each).map(({ criterion, points }, place) => {
    const width = (points / most) * WIDTH;
    x += width;
    return svg("rect", { class: `part p${place % 5}`, x: (x - width).toFixed(1), y: 2, width: Math.max(0, width - 1).toFixed(1), height: 8, rx: 1.5 }, svg("title", {}, `${criterion}: ${number(points)}`));
  });
  return svg("svg", { viewBox: `0 0 ${WIDTH} 12`, class: "score", "aria-hidden": "true" }, drawn);
}
