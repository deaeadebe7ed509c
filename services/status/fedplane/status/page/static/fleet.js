// What each cluster offers, when it was last heard, and whether it was chosen for a run.

import { ago, chooser, el, listing, paged, pager, searchbox, table, time, word } from "./parts.js";
import { lookAtPlacement, now, state } from "./store.js";

const RUNS = 50; // runs to choose from: the newest

export function fleetView({ redraw }) {
  const list = listing();
  let run = null; // the newest, unless somebody has chosen another

  function draw() {
    const runs = [...state.runs.values()].sort((a, b) => (a.submitted_at < b.submitted_at ? 1 : -1)).slice(0, RUNS);
    const of = runs.find((each) => each.run === run) ?? runs.find((each) => each.chosen) ?? runs[0];
    const verdicts = verdictsOf(of);
    const all = [...state.clusters.values()].sort((a, b) => (a.cluster < b.cluster ? -1 : 1)).map((each) => ({ ...each, ...lifeOf(each) }));
    const found = all.filter((each) => (list.kind === "all" || each.life === list.kind) && matches(each, list.text.trim().toLowerCase()));
    const shown = paged(list, found);
    const lives = ["heard", "silent", "unavailable"].map((life) => [life, all.filter((each) => each.life === life).length]).filter(([, many]) => many);
    const choose = (kind) => { list.kind = kind; list.page = 0; redraw(); };
    return [
      el("h1", {}, "Fleet"),
      el("ul", { class: "counts" }, lives.map(([life, many]) => el("li", { "data-key": life }, word(life, `${many.toLocaleString("en")} ${life}`)))),
      all.length ? el("div", { class: "fields" }, searchbox("Find a cluster, claim or label", list, redraw),
        chooser("Show", [["all", "all clusters"], ["heard", "heard"], ["silent", "silent"], ["unavailable", "unavailable"]], list.kind, choose),
        of ? chooser("Why chosen or not, for", runs.map((each) => [each.run, each.run]), of.run, (chosen) => { run = chosen; redraw(); }) : null) : null,
      all.length ? table("Clusters", ["Cluster", "Last heard", "Resources", "Claims", "Frameworks and labels", ...(of ? [of.run] : [])],
        shown.items.map((each) => row(each, of, verdicts)), { class: "fleet" }) : nothing(),
      pager(list, shown, redraw),
    ].filter(Boolean);
  }

  return { draw, title: () => "Fleet" };
}

function nothing() {
  return el("p", { class: "empty" }, "No cluster has advertised itself yet. ", el("code", {}, "fedplane up --clusters FILE"), " runs some on this machine.");
}

function verdictsOf(run) {
  if (!run) return new Map();
  const body = lookAtPlacement(run).body;
  return new Map((body?.clusters ?? []).map((each) => [each.cluster, each]));
}

function lifeOf(each) {
  const at = state.heard.get(each.cluster);
  const lapsed = !at || now() - Date.parse(at) > each.lease_seconds * 1000 + 5000; // news of the fleet come every five seconds
  return { at, life: lapsed ? "silent" : each.unavailable ? "unavailable" : "heard" };
}

function matches(each, text) {
  return !text || JSON.stringify([each.cluster, each.claims, each.labels, each.frameworks]).toLowerCase().includes(text);
}

function row(each, run, verdicts) {
  const verdict = verdicts.get(each.cluster);
  return {
    key: each.cluster,
    cells: [
      each.cluster,
      [word(each.life), el("span", { class: "note" },
        each.life === "silent" && each.at ? ["since ", time(each.at, ago(each.at, now()))] : each.unavailable)],
      pairs(each.allocatable),
      pairs(each.claims),
      [el("p", { class: "tags" }, each.frameworks.map((name) => el("span", { class: "tag", "data-key": name }, name))), pairs(each.labels)],
      ...(run ? [verdict ? [word(verdict.chosen ? "chosen" : "refused", verdict.chosen ? "takes part" : `not: ${verdict.reason}`),
        el("span", { class: "note" }, verdict.message || (verdict.score === null ? "" : `score ${verdict.score.toFixed(2)}`))]
        : el("span", { class: "quiet" }, "not looked at")] : []),
    ],
  };
}

function pairs(given) {
  const entries = Object.entries(given);
  return entries.length ? el("ul", { class: "pairs" }, entries.map(([name, value]) => el("li", { "data-key": name }, el("span", { class: "quiet" }, name), " ", value))) : "";
}
