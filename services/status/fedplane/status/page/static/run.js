// One run: how far it is, what was measured, what happened in each round, and why these clusters.

import { curves } from "./curves.js";
import { bytes, count, el, number, span, time, word } from "./parts.js";
import { placementSection } from "./placement.js";
import { look, now, state } from "./store.js";
import { timelineSection } from "./timeline.js";

export function runView({ redraw, path }) {
  const run = path[0] ?? "";
  const timeline = timelineSection(run, redraw);
  const placement = placementSection(redraw);

  function draw() {
    const line = state.runs.get(run);
    if (!line) return [el("h1", {}, run), missing(run)];
    const held = look(`api/runs/${run}`, line.sequence);
    const view = held.body;
    return [
      el("nav", { class: "crumbs", "aria-label": "Where this is" }, el("a", { href: "#/" }, "Runs"), " / "),
      el("h1", {}, run),
      head(line, view),
      ...(view ? [...curves(view), ...timeline(view, line), ...placement(line)] : [el("p", { class: "quiet" }, held.error || "Reading the run.")]),
    ];
  }

  return { draw, title: () => run };
}

function missing(run) {
  return el("p", { class: "empty" }, "There is no such run here. One that was archived is shown by ", el("code", {}, `fedplane get ${run}`), ".");
}

function madeIn(model) {
  return model.training_round === null ? "" : model.training_round ? `, of training round ${model.training_round}` : ", of the initialization";
}

function spent(privacy) {
  return `epsilon ${number(privacy.epsilon)} at delta ${privacy.delta}, by ${count(privacy.rounds, "round")} with noise`;
}

function head(line, view) {
  const end = line.ended_at ? Date.parse(line.ended_at) : now();
  const facts = [
    ["Submitted", time(line.submitted_at, new Date(line.submitted_at).toLocaleString("en-GB"))],
    [line.ended_at ? "Took" : "For", span((end - Date.parse(line.submitted_at)) / 1000)],
    ["Clusters", `${line.chosen} chosen, ${line.refused} not`],
    ...(view?.privacy ? [["Privacy", spent(view.privacy)]] : []),
    ...(view?.model ? [["Model", `${bytes(view.model.bytes)}${madeIn(view.model)}${view.location ? `, kept in ${view.location}` : ""}`]] : []),
    ["Namespace", line.namespace],
  ];
  return el("section", { class: "head", "aria-label": "State of the run" },
    el("p", { class: "state" }, word(line.phase), el("span", {}, line.message)),
    el("div", { class: "advance" },
      el("progress", { max: Math.max(1, line.rounds), value: line.rounds_done, "aria-label": "Training rounds" }),
      el("span", { class: "figure" }, `${line.rounds_done} of ${count(line.rounds, "training round")}`)),
    el("dl", {}, facts.map(([name, value]) => el("div", { "data-key": name }, el("dt", {}, name), el("dd", {}, value)))),
    el("p", { class: "links" },
      el("a", { href: `#/events?run=${encodeURIComponent(line.run)}` }, "Events of this run"),
      view?.trace ? [" ", el("a", { href: view.trace, rel: "noreferrer" }, "Trace of this run")] : ""));
}
