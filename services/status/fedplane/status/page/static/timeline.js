// The rounds of a run: all of them side by side, and the one that is chosen with what each cluster did in it, and when.

import { chooser, clock, count, el, listing, number, paged, pager, searchbox, span, svg, table, time, word } from "./parts.js";
import { look, now } from "./store.js";

const OUTCOMES = ["answered", "working", "late", "declined", "rejected", "abandoned"];
const TROUBLE = new Set(["late", "declined", "rejected"]);
const TASKS = { train: "Training round", evaluate: "Evaluation of training round", reply: "Replies in training round" };
const WHY = { late: "no answer before the round was closed", abandoned: "the run ended first" };
const HEIGHT = 54; // of a round's column
const BREADTH = 22;
const WIDTH = 300; // of a bar, in its own units

export function timelineSection(run, redraw) {
  const list = listing();
  let chosen = null; // the latest, unless somebody has chosen another

  function draw(view, line) {
    const rounds = view.rounds_held;
    if (!rounds.length) return [];
    const of = rounds.find((round) => round.round === chosen) ?? rounds.at(-1);
    const choose = (event) => { chosen = Number(event.target.value); list.page = 0; redraw(); };
    const held = look(`api/runs/${run}/rounds/${of.round}`, `${of.state} ${JSON.stringify(of.outcomes)}`);
    return [el("section", { "aria-labelledby": "rounds" },
      el("h2", { id: "rounds" }, "Rounds"),
      strip(rounds, of, choose),
      el("div", { class: "round", "data-key": `round ${of.round}` }, heading(of, line), held.body?.round === of.round ? clusters(held.body, list, redraw) : el("p", { class: "quiet" }, held.error || "Reading the round.")))];
  }

  return draw;
}

// All rounds

function strip(rounds, of, choose) {
  const most = Math.max(1, ...rounds.map((round) => round.invited));
  return el("fieldset", { class: "strip" },
    el("legend", { class: "unseen" }, "Which round is shown"),
    el("div", { class: "columns" }, rounds.map((round) => column(round, most, round === of, choose))));
}

function column(round, most, checked, choose) {
  const said = `${name(round)}: ${round.state.toLowerCase()}, ${outcomesSaid(round)}`;
  const input = el("input", { type: "radio", name: "round", value: round.round, "aria-label": said, onchange: choose });
  input.checked = checked;
  return el("label", { "data-key": String(round.round), title: said, class: round.state === "Failed" ? "failed" : null },
    input, stack(round, most), el("span", { class: "tick", "aria-hidden": "true" }, short(round)));
}

function stack(round, most) {
  let top = HEIGHT;
  const parts = OUTCOMES.filter((outcome) => round.outcomes[outcome]).map((outcome) => {
    const height = Math.max(2, (round.outcomes[outcome] / most) * (HEIGHT - 2));
    top -= height;
    return svg("rect", { class: `bar ${outcome}`, x: 3, width: BREADTH - 6, y: top.toFixed(1), height: Math.max(1, height - 0.8).toFixed(1), rx: 1.5 });
  });
  return svg("svg", { viewBox: `0 0 ${BREADTH} ${HEIGHT}`, width: BREADTH, height: HEIGHT, "aria-hidden": "true" }, parts);
}

function name(round) {
  return TASKS[round.task] ? `${TASKS[round.task]} ${round.training_round}` : "Initialization";
}

function short(round) {
  return round.task === "initialize" ? "init" : round.task === "evaluate" ? "ev" : String(round.training_round);
}

function outcomesSaid(round) {
  return OUTCOMES.filter((outcome) => round.outcomes[outcome]).map((outcome) => `${round.outcomes[outcome]} ${outcome}`).join(", ") || "nobody was invited";
}

// One round

function heading(of, line) {
  const spent = of.epsilon === null ? [] : [["epsilon so far", of.epsilon]];
  const metrics = [...Object.entries(of.metrics).slice(0, 4), ...spent].map(([metric, value]) => `${metric} ${number(value)}`).join(", ");
  const took = ((of.ended_at ? Date.parse(of.ended_at) : now()) - Date.parse(of.opened_at)) / 1000;
  return el("div", { class: "round-head" },
    el("h3", {}, TASKS[of.task] ? `${name(of)} of ${line.rounds}` : name(of)),
    el("p", {}, `${of.state}${of.message ? `: ${of.message}` : ""}. Opened `, time(of.opened_at), `, ${of.ended_at ? "took" : "for"} ${span(took)}`,
      of.state === "Open" ? `, closes at ${clock(of.deadline)} at the latest` : "", `. ${metrics}`,
      of.trace ? [" ", el("a", { href: of.trace, rel: "noreferrer" }, "Trace of this round")] : ""),
    el("ul", { class: "counts" }, OUTCOMES.filter((outcome) => of.outcomes[outcome]).map((outcome) =>
      el("li", { "data-key": outcome }, word(outcome, `${of.outcomes[outcome].toLocaleString("en")} ${outcome}`)))));
}

function clusters(round, list, redraw) {
  const found = round.clusters.filter((each) =>
    (list.kind === "all" || TROUBLE.has(each.outcome)) && each.cluster.includes(list.text.trim().toLowerCase()));
  const shown = paged(list, found);
  const scale = scaleOf(round);
  const trouble = round.clusters.filter((each) => TROUBLE.has(each.outcome)).length;
  return [
    round.clusters.length > 8 ? el("div", { class: "fields" }, searchbox("Find a cluster", list, redraw),
      chooser("Show", [["all", "all clusters"], ["trouble", `late, declined, rejected (${trouble})`]], list.kind, (kind) => { list.kind = kind; list.page = 0; redraw(); })) : null,
    table("What each cluster did in this round", ["Cluster", "Outcome", axis(scale), "Why"], shown.items.map((each) => row(each, scale)), { class: "timeline" }),
    pager(list, shown, redraw),
    leftOut(round.left_out),
  ].filter(Boolean);
}

function row(each, scale) {
  const when = each.seconds === null ? "" : ` ${each.outcome === "rejected" ? "answer" : ""} after ${span(each.seconds)}`;
  const why = [each.reason ? `${each.reason}: ${each.message}` : WHY[each.outcome], each.carries !== null && `carried from round ${each.carries}`].filter(Boolean).join("; ");
  return { key: each.cluster, cells: [each.cluster, [word(each.outcome), el("span", { class: "figure quiet" }, when)], bar(each, scale, why), why] };
}

function leftOut(clusters) {
  const names = Object.entries(clusters);
  return names.length ? el("details", {}, el("summary", {}, `${count(names.length, "cluster")} not asked`),
    el("ul", {}, names.map(([cluster, why]) => el("li", { "data-key": cluster }, `${cluster}: ${why}`)))) : null;
}

// Bars: from the invitation to the answer, or to the end of the wait. All rows have one scale.

function scaleOf(round) {
  const after = (at) => (Date.parse(at) - Date.parse(round.opened_at)) / 1000;
  const closed = round.closed_at ? after(round.closed_at) : null;
  const waited = closed ?? (round.ended_at ? after(round.ended_at) : Math.min(after(nowText()), after(round.deadline)));
  const answers = round.clusters.map((each) => each.seconds ?? 0);
  const end = Math.max(0.1, waited, round.ended_at ? after(round.ended_at) : 0, ...answers);
  return { end, waited, closed, x: (seconds) => Math.min(WIDTH - 2, 2 + (seconds / end) * (WIDTH - 4)) };
}

function nowText() {
  return new Date(now()).toISOString();
}

function axis(scale) {
  const marks = [0, scale.end / 2, scale.end];
  return el("span", { class: "axis", "data-name": "When" }, el("span", { class: "unseen" }, "When"),
    marks.map((at) => el("span", { "aria-hidden": "true" }, span(at))));
}

function bar(each, scale, why) {
  const end = each.seconds ?? scale.waited;
  const said = `${each.cluster}: ${each.outcome}${why ? `, ${why}` : ""}, from 0 to ${span(end)}`;
  const width = Math.max(3, scale.x(end) - 2);
  return svg("svg", { viewBox: `0 0 ${WIDTH} 18`, preserveAspectRatio: "none", class: "span", role: "img", "aria-label": said },
    svg("title", {}, said),
    svg("path", { class: "rail", d: `M2 9H${WIDTH - 2}` }),
    svg("rect", { class: `bar ${each.outcome}`, x: 2, y: 4, width: width.toFixed(1), height: 10, rx: 2 }),
    scale.closed === null ? null : svg("path", { class: "closed", d: `M${scale.x(scale.closed).toFixed(1)} 0V18` }));
}
