// Facts as they are stated, the newest first. It can be held still to read it, and narrowed down.

import { chooser, el, listing, paged, pager, searchbox, table, time, word } from "./parts.js";
import { LINES, state } from "./store.js";

const TROUBLE = { declined: "declined", rejected: "rejected", failed: "Failed", cancelled: "Failed", completed: "Completed", waiting: "Waiting" };

export function eventsView({ redraw, query }) {
  const list = listing();
  let run = query.get("run") ?? "";
  let held = null; // the lines as they were when somebody paused

  function draw() {
    const lines = held ?? state.lines;
    const kinds = [...new Set(lines.map((line) => line.kind))].sort();
    const runs = [...new Set([run, ...lines.map((line) => line.run)])].filter(Boolean).sort();
    const text = list.text.trim().toLowerCase();
    const found = lines.filter((line) => (list.kind === "all" || line.kind === list.kind) && (!run || line.run === run)
      && (!text || `${line.kind} ${line.run} ${line.cluster} ${line.text}`.toLowerCase().includes(text))).reverse();
    const shown = paged(list, found);
    const newer = held ? state.lines.filter((line) => line.sequence > (held.at(-1)?.sequence ?? 0)).length : 0;
    return [
      el("h1", {}, "Events"),
      el("div", { class: "fields" },
        searchbox("Find", list, redraw),
        chooser("Kind", [["all", "all"], ...kinds.map((kind) => [kind, kind])], list.kind, (kind) => { list.kind = kind; list.page = 0; redraw(); }),
        chooser("Run", [["", "all"], ...runs.map((name) => [name, name])], run, (name) => { run = name; list.page = 0; redraw(); }),
        el("button", { type: "button", class: "pause", "aria-pressed": held ? "true" : "false", onclick: () => { held = held ? null : state.lines; redraw(); } },
          held ? `Paused, ${newer} newer` : "Pause")),
      lines.length ? table("Facts, the newest first", ["Time", "What", "Run", "Round", "Cluster", "Detail"], shown.items.map(row), { class: "events" })
        : el("p", { class: "empty" }, "Nothing was stated yet."),
      pager(list, shown, redraw),
      el("p", { class: "quiet" }, `The last ${LINES} facts that people look at. `, el("code", {}, "fedplane events --from-start"), " prints all there are."),
    ].filter(Boolean);
  }

  return { draw, title: () => "Events" };
}

function row(line) {
  return {
    key: String(line.sequence),
    cells: [
      time(line.at), TROUBLE[line.kind] ? word(TROUBLE[line.kind], line.kind) : el("span", { class: "word" }, line.kind),
      el("a", { href: `#/run/${encodeURIComponent(line.run)}` }, line.run), line.round === null ? "" : String(line.round), line.cluster, line.text,
    ],
  };
}
