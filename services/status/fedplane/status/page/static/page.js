// The page as a whole: which view is shown, and everything around it.

import { fleetView } from "./fleet.js";
import { eventsView } from "./events.js";
import { renew } from "./parts.js";
import { runView } from "./run.js";
import { runsView } from "./runs.js";
import { begin, state } from "./store.js";

const DRAW_PAUSE = 250; // milliseconds between two drawings, however much happens
const TICK = 2000; // milliseconds: clocks on the page go on though nothing happens

const main = document.getElementById("main");
let view = null;
let drawn = 0;
let waiting = 0;
const phases = new Map();

const VIEWS = { "": runsView, run: runView, fleet: fleetView, events: eventsView };

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decoded);
  const make = VIEWS[name] ?? runsView;
  view = make({ redraw: draw, path: rest, query: new URLSearchParams(query) });
  const page = name === "run" || !VIEWS[name] ? "runs" : name || "runs";
  for (const link of document.querySelectorAll("nav [data-page]")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren();
  draw();
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; } // an address that was typed or cut may be none
}

function draw() {
  clearTimeout(waiting);
  waiting = 0;
  drawn = performance.now();
  const begun = performance.now();
  renew(main, state.told ? view.draw() : [Object.assign(document.createElement("p"), { className: "quiet", textContent: "Reading the log." })]);
  showLatest();
  performance.measure("draw", { start: begun, end: performance.now() });
  document.title = state.told ? `${view.title()} · fedplane` : "fedplane";
  const connection = document.getElementById("connection");
  const said = !state.live ? (state.told ? "Connection lost, trying again" : "Connecting") : state.away ? "The bus is away" : "Live";
  if (connection.textContent !== said) connection.textContent = said;
  connection.classList.toggle("live", state.live && !state.away);
}

// Many rounds are wider than the screen, and the last ones are what people come for.
function showLatest() {
  const columns = main.querySelector(".columns:not([data-shown])");
  if (columns) { columns.dataset.shown = ""; columns.scrollLeft = columns.scrollWidth; }
}

function drawSoon() {
  announce();
  if (!waiting && !document.hidden) waiting = setTimeout(draw, Math.max(0, drawn + DRAW_PAUSE - performance.now()));
}

// A screen reader is told when a run enters another phase, and nothing of what happens in between.
function announce() {
  const said = [];
  for (const run of state.runs.values()) {
    const before = phases.get(run.run);
    if (before !== undefined && before !== run.phase) said.push(`${run.run}: ${run.phase}. ${run.message}`);
    phases.set(run.run, run.phase);
  }
  if (said.length) document.getElementById("announcement").textContent = said.slice(-3).join(" ");
}

function chooseScheme() {
  const select = document.getElementById("scheme");
  const apply = (scheme) => { document.documentElement.dataset.scheme = scheme; select.value = scheme; };
  let held = "auto";
  try { held = localStorage.getItem("scheme") ?? "auto"; } catch { /* a browser may keep nothing: then the choice is for now */ }
  apply(["light", "dark"].includes(held) ? held : "auto");
  select.onchange = () => {
    apply(select.value);
    try { localStorage.setItem("scheme", select.value); } catch { /* the same */ }
  };
}

window.addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#/") && location.hash !== "") return; // the skip link
  route();
  const heading = main.querySelector("h1");
  if (heading) { heading.tabIndex = -1; heading.focus({ preventScroll: true }); }
  window.scrollTo(0, 0);
});

chooseScheme();
route();
begin(drawSoon);
setInterval(drawSoon, TICK);
document.addEventListener("visibilitychange", drawSoon);
