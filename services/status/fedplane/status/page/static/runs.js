// Every run, the newest first.

import { ago, chooser, el, listing, number, paged, pager, searchbox, span, table, time, word } from "./parts.js";
import { now, state } from "./store.js";

const PHASES = ["Waiting", "Running", "Completed", "Failed"];

export function runsView({ redraw }) {
  const list = listing();

  function draw() {
    const all = [...state.runs.values()].sort((a, b) => (a.submitted_at < b.submitted_at ? 1 : -1));
    const found = all.filter((run) =>
      (list.kind === "all" || run.phase === list.kind) && `${run.run} ${run.namespace}`.includes(list.text.trim().toLowerCase()));
    const shown = paged(list, found);
    const counted = PHASES.map((phase) => [phase, all.filter((run) => run.phase === phase).length]).filter(([, many]) => many);
    return [
      el("h1", {}, "Runs"),
      all.length ? el("ul", { class: "counts" }, counted.map(([phase, many]) => el("li", { "data-key": phase }, word(phase, `${many} ${phase.toLowerCase()}`)))) : null,
      all.length > 5 ? el("div", { class: "fields" }, searchbox("Find a run", list, redraw),
        chooser("Phase", [["all", "all"], ...PHASES.map((phase) => [phase, phase.toLowerCase()])], list.kind, (kind) => { list.kind = kind; list.page = 0; redraw(); })) : null,
      all.length ? table("Runs", ["Run", "Phase", "Training rounds", "Clusters", "Latest", "Submitted"], shown.items.map(row), { class: "runs" }) : nothing(),
      pager(list, shown, redraw),
    ].filter(Boolean);
  }

  return { draw, title: () => "Runs" };
}

function nothing() {
  return el("p", { class: "empty" }, "There are no runs yet. ", el("code", {}, "fedplane submit FILE"), " asks for one, and it appears here by itself.");
}

function row(run) {
  return {
    key: run.run,
    cells: [
      [el("a", { href: `#/run/${encodeURIComponent(run.run)}` }, run.run), el("span", { class: "note" }, run.message)],
      word(run.phase),
      [el("progress", { max: Math.max(1, run.rounds), value: run.rounds_done, "aria-label": `Training rounds of ${run.run}` }),
        el("span", { class: "figure" }, `${run.rounds_done} of ${run.rounds}`)],
      run.chosen || run.refused
        ? [el("span", { class: "figure" }, `${run.chosen} chosen`), el("span", { class: "note" }, run.refused ? `${run.refused} not` : "")]
        : el("span", { class: "quiet" }, "none yet"),
      Object.entries(run.metrics).map(([name, value]) => el("span", { class: "metric" }, el("span", { class: "quiet" }, name), ` ${number(value)}`)),
      [time(run.submitted_at, ago(run.submitted_at, now())),
        el("span", { class: "note" }, run.ended_at ? `took ${span((Date.parse(run.ended_at) - Date.parse(run.submitted_at)) / 1000)}` : "")],
    ],
  };
}
