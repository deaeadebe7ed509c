"""What the page's paths answer: its files, documents about runs and the fleet, and one stream of what is new.

| path | what it is |
|---|---|
| `/`, and the files it names | the page |
| `/api/runs` | a line for each run |
| `/api/runs/RUN` | a run with a line for each of its rounds |
| `/api/runs/RUN/placement` | why each cluster takes part, or does not |
| `/api/runs/RUN/rounds/N` | a round with what became of each cluster |
| `/api/fleet` | what each cluster offers, and when it was heard |
| `/events` | server-sent events: everything once, and from then on what is new |
| `/events?since=ID` | what is new since the event with that id |

An event's id says how far its reader has seen, so a browser that was away goes on there (`onlooking`).
Everything is read from memory: a reader costs the bus nothing, and hears when the bus is away and what it is shown is no longer new.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any

from fedplane.runtime.ports import Bus
from fedplane.runtime.replica import Replica
from fedplane.runtime.spans import round_traceparent, run_traceparent
from fedplane.schemas.views import RunView
from fedplane.status.page.files import pages
from fedplane.status.page.listening import Answer, Question, listening
from fedplane.status.page.onlooking import Onlooker, Place, Seen, news, place_of, within
from fedplane.status.page.pictures import Trace, overview, placement, round_picture, summary
from fedplane.status.page.settings import PageSettings
from fedplane.status.phases import Runs

__all__ = ["Page", "serve_page"]

NEWS_SECONDS = 0.5
"""How often a reader is told what is new, if anything is: people look at it, and in a large round something is new all the time."""

FLEET_SECONDS = 5.0
"""How often it is told of clusters: as often as each of them speaks."""

SILENCE_SECONDS = 15.0
"""How long a stream is silent at most, so that whatever is between us and the browser does not take it for dead."""


class Page:
    """Answers from the views of one replica, and from what another one has seen."""

    def __init__(self, phases: Replica[Runs], onlooker: Replica[Seen], is_connected: Callable[[], bool], trace_url: str = "") -> None:
        self._phases = phases
        self._onlooker = onlooker
        self._is_connected = is_connected
        self._trace_url = trace_url

    def respond(self, question: Question) -> Answer:
        """The answer to a question."""
        if question.path in pages():
            return pages()[question.path]
        if not (self._phases.live.is_set() and self._onlooker.live.is_set()):
            return Answer(503, "text/plain; charset=utf-8", b"the log is still being read; try again", (("Retry-After", "1"),))
        if question.path == "/events":
            since = Place.read(question.last_event_id or question.query.removeprefix("since="))
            return Answer(200, "text/event-stream", lambda: self._news(since))
        found = self._document(question.path.split("/")[1:])
        if found is None:
            return _json(404, {"error": f"there is nothing at {question.path}; an archived run is shown by `fedplane get RUN`"})
        return _json(200, found)

    def _document(self, path: list[str]) -> Any:
        match path:
            case ["api", "runs"]:
                return [summary(view) for view in self._phases.state.values()]
            case ["api", "fleet"]:
                fleet = self._onlooker.state.fleet.values()
                return [{**offered.offer, "heard_at": offered.heard_at.isoformat()} for offered in fleet]
            case ["api", "runs", run, *rest] if run in self._phases.state:
                return self._of_run(self._phases.state[run], rest)
        return None

    def _of_run(self, view: RunView, path: list[str]) -> Any:
        match path:
            case []:
                return overview(view, self._trace_of(view.run))
            case ["placement"]:
                return placement(view)
            case ["rounds", number] if number.isascii() and number.isdigit() and len(number) < 10:
                return round_picture(view, int(number), self._trace_of(view.run))
        return None

    def _trace_of(self, run: str) -> Trace:
        def address(round_: int | None) -> str:
            traceparent = run_traceparent(run) if round_ is None else round_traceparent(run, round_)
            return self._trace_url.replace("{trace_id}", traceparent.split("-")[1])

        return address

    async def _news(self, since: Place) -> AsyncGenerator[bytes, None]:
        runs, seen = self._phases.state, self._onlooker.state
        place, told = place_of(seen, runs), set(runs)
        since = within(since, place)
        there = {"runs": sorted(runs), "clusters": sorted(seen.fleet)}
        away = not self._is_connected()
        yield _event(place, {**news(seen, runs, since), "away": away, "there": there, "anew": since == Place()})
        fleet_at = spoke_at = time.monotonic()
        while True:
            await asyncio.sleep(NEWS_SECONDS)
            runs, seen, now = self._phases.state, self._onlooker.state, time.monotonic()
            if now - fleet_at < FLEET_SECONDS:
                seen = Seen({}, seen.lines)
            else:
                fleet_at = now
            fresh = news(seen, runs, Place(place.runs, place.lines, place.fleet if seen.fleet else 0))
            gone, told = sorted(told - set(runs)), set(runs)
            was_away, away = away, not self._is_connected()
            if gone or any(fresh.values()) or away is not was_away:
                reached = place_of(seen, runs)
                place = Place(reached.runs, reached.lines, reached.fleet or place.fleet)
                yield _event(place, {**fresh, "away": away, "gone": gone})
                spoke_at = now
            elif now - spoke_at >= SILENCE_SECONDS:
                yield b":\n\n"
                spoke_at = now


async def serve_page(bus: Bus, phases: Replica[Runs], settings: PageSettings) -> None:
    """Keep the page where the settings say, until cancelled; without a port, there is none."""
    if settings.page_port is None:
        return
    onlooker = Replica(Onlooker(), bus.log)
    page = Page(phases, onlooker, bus.is_connected, settings.trace_url)
    async with listening(settings.page_host, settings.page_port, page.respond):
        await onlooker.run()


def _json(status: int, document: Any) -> Answer:
    return Answer(status, "application/json", json.dumps(document, separators=(",", ":")).encode())


def _event(place: Place, document: dict[str, Any]) -> bytes:
    """A server-sent event; its time lets a browser whose clock is wrong tell how long ago something was."""
    written = json.dumps({"now": datetime.now(UTC).isoformat(), **document}, separators=(",", ":"))
    return f"id: {place}\ndata: {written}\n\n".encode()
