// What the page knows: the stream of what is new, and documents that are fetched when they are looked at.
//
// A browser that loses the stream comes back by itself, says the id of the last event that it got, and hears what it missed.
// A page that nobody sees has no stream: a browser opens six connections to one place, and so many tabs are soon open.

export const LINES = 500; // as many as the service keeps

const DOCUMENT_PAUSE = 1000; // milliseconds between two fetches of one document, however fast its run changes

export const state = {
  runs: new Map(), clusters: new Map(), heard: new Map(), lines: [],
  live: false, told: false, away: false, skew: 0, // away: the service cannot hear the bus
};

const AGAIN = 2000; // milliseconds: how soon it is tried again when the service is there and says that it cannot yet

let changed = () => {};
let stream = null;
let place = "";

export function now() {
  return Date.now() + state.skew;
}

export function begin(onchange) {
  changed = onchange;
  document.addEventListener("visibilitychange", () => { if (document.hidden) stream.close(); else follow(); });
  follow();
}

function follow() {
  stream?.close();
  stream = new EventSource(place ? `events?since=${place}` : "events");
  stream.onopen = () => { state.live = true; changed(); };
  stream.onmessage = (event) => { place = event.lastEventId; absorb(JSON.parse(event.data)); changed(); };
  stream.onerror = () => {
    state.live = false;
    changed();
    if (stream.readyState === EventSource.CLOSED && !document.hidden) setTimeout(follow, AGAIN);
  };
}

function absorb(news) {
  state.live = state.told = true;
  state.away = news.away;
  state.skew = Date.parse(news.now) - Date.now();
  if (news.anew) { state.lines = []; state.heard.clear(); }
  if (news.there) {
    keep(state.runs, new Set(news.there.runs));
    keep(state.clusters, new Set(news.there.clusters));
  }
  for (const run of news.gone ?? []) state.runs.delete(run);
  for (const run of news.runs) state.runs.set(run.run, run);
  for (const cluster of news.clusters) state.clusters.set(cluster.cluster, cluster);
  for (const [cluster, at] of Object.entries(news.heard)) state.heard.set(cluster, at);
  state.lines = [...state.lines, ...news.lines].slice(-LINES);
}

function keep(map, names) {
  for (const name of [...map.keys()]) if (!names.has(name)) map.delete(name);
}

// Documents: the one that is looked at is fetched anew when its run has changed, at most once a second.

const documents = new Map();

export function look(path, version) {
  let held = documents.get(path);
  if (!held) {
    held = { body: null, version: null, error: "", at: -Infinity, under_way: false };
    documents.set(path, held);
    if (documents.size > 20) documents.delete(documents.keys().next().value); // the first is the oldest
  }
  if (held.version !== version && !held.under_way) fetchLater(path, held, version);
  return held;
}

// Why clusters were chosen does not change any more once they are; while a run waits, each of its news may say more.
export function lookAtPlacement(run) {
  return look(`api/runs/${run.run}/placement`, run.phase === "Waiting" ? run.sequence : `${run.chosen} ${run.refused}`);
}

async function fetchLater(path, held, version) {
  held.under_way = true;
  await new Promise((go) => setTimeout(go, Math.max(0, held.at + DOCUMENT_PAUSE - performance.now())));
  held.at = performance.now();
  try {
    const answer = await fetch(path);
    const body = await answer.json();
    held.error = answer.ok ? "" : body.error;
    if (answer.ok) held.body = body;
    held.version = version;
  } catch (error) {
    held.error = `cannot be fetched: ${error.message}`;
  }
  held.under_way = false;
  changed();
}
