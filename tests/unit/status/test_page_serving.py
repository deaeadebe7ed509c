"""What the page's paths answer, on a bus in memory: before the log is read, while runs come and go, and while nothing happens."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from status_story import PIECE, Story

from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.replica import Replica
from fedplane.schemas import facts
from fedplane.status.page import serving
from fedplane.status.page.listening import Question
from fedplane.status.page.onlooking import Onlooker, offer
from fedplane.status.page.serving import Page
from fedplane.status.phases import Phases

S = Story()
ARCHIVED = facts.Archived(at=S.at(30), run=S.run, facts=2, piece=PIECE)


def advertised(second: float) -> facts.Advertised:
    return facts.Advertised(at=S.at(second), cluster="a", lease_seconds=15)


async def keep_to_ourselves(effect: object) -> None:
    """Nobody else looks."""


@asynccontextmanager
async def page_on(bus: MemoryBus) -> AsyncIterator[Page]:
    phases, onlooker = Replica(Phases(10), bus.log, perform=keep_to_ourselves), Replica(Onlooker(), bus.log)
    page = Page(phases, onlooker, bus.is_connected)
    assert page.respond(Question("/api/runs")).status == 503
    assert page.respond(Question("/")).status == 200, "the page itself is there at once"
    tasks = [asyncio.create_task(replica.run()) for replica in (phases, onlooker)]
    try:
        async with asyncio.timeout(5):
            await asyncio.gather(phases.live.wait(), onlooker.live.wait())
        yield page
    finally:
        for task in tasks:
            task.cancel()


def read(page: Page, path: str) -> Any:
    answer = page.respond(Question(path))
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body) if answer.status == 200 else answer.status


def stream(page: Page, query: str = "", place: str = "") -> AsyncGenerator[bytes, None]:
    answer = page.respond(Question("/events", query, place))
    assert (answer.status, answer.kind) == (200, "text/event-stream")
    assert callable(answer.body)
    return answer.body()


async def event(pieces: AsyncGenerator[bytes, None]) -> dict[str, Any]:
    """The next one, with its id and without its time."""
    async with asyncio.timeout(5):
        said = dict(line.split(": ", 1) for line in (await anext(pieces)).decode().splitlines() if line)
    news: dict[str, Any] = json.loads(said["data"])
    assert news.pop("now")
    return {"id": said["id"], **news}


async def test_a_reader_is_told_what_there_is_then_what_is_new_and_at_last_that_a_run_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "NEWS_SECONDS", 0.01)
    monkeypatch.setattr(serving, "FLEET_SECONDS", 0.0)
    bus = MemoryBus()
    await bus.log.state(S.submitted())

    async with page_on(bus) as page:
        pieces = stream(page)
        first = await event(pieces)
        (run,) = read(page, "/api/runs")
        assert run["run"] == S.run
        assert (first["id"], first["anew"], first["there"], first["runs"]) == ("1-1-0", True, {"runs": [S.run], "clusters": []}, [run])

        await bus.log.state(advertised(1))
        assert await event(pieces) == {
            "id": "1-1-2", "away": False, "runs": [], "lines": [], "gone": [], "heard": {"a": S.at(1).isoformat()},
            "clusters": [
                offer(advertised(1)),
            ],
        }  # fmt: skip
        for later in (stream(page, "since=1-1-0"), stream(page, "since=9-9-9", "1-1-0")):
            missed = await event(later)
            assert (missed["anew"], missed["runs"], list(missed["heard"])) == (False, [], ["a"])
        assert [each["heard_at"] for each in read(page, "/api/fleet")] == [S.at(1).isoformat()]

        await bus.log.state(S.cancelled())
        cancelled = await event(pieces)
        assert ([each["phase"] for each in cancelled["runs"]], cancelled["heard"]) == (["Failed"], {})

        await bus.log.state(ARCHIVED)
        archived = await event(pieces)
        assert ([line["kind"] for line in archived["lines"]], archived["runs"], archived["gone"]) == (["archived"], [], [S.run])
        assert (read(page, "/api/runs"), read(page, f"/api/runs/{S.run}")) == ([], 404)


async def test_clusters_are_told_of_less_often_than_runs_and_none_of_their_news_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "NEWS_SECONDS", 0.01)
    monkeypatch.setattr(serving, "FLEET_SECONDS", 0.2)
    bus = MemoryBus()

    async with page_on(bus) as page:
        pieces = stream(page)
        await event(pieces)
        await bus.log.state(advertised(1))
        await bus.log.state(S.submitted())
        first, second = await event(pieces), await event(pieces)

    assert ([each["run"] for each in first["runs"]], first["clusters"]) == ([S.run], [])
    assert (second["runs"], [each["cluster"] for each in second["clusters"]]) == ([], ["a"])


async def test_a_stream_on_which_nothing_happens_is_not_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "NEWS_SECONDS", 0.01)
    monkeypatch.setattr(serving, "SILENCE_SECONDS", 0.05)

    async with page_on(MemoryBus()) as page:
        pieces = stream(page, "no place")
        await event(pieces)
        async with asyncio.timeout(5):
            assert await anext(pieces) == b":\n\n"


async def test_a_reader_hears_that_the_bus_is_away_and_that_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "NEWS_SECONDS", 0.01)
    bus = MemoryBus()

    async with page_on(bus) as page:
        pieces, told = stream(page), []
        for connected in (True, False, True):
            bus.connected = connected
            told.append((await event(pieces))["away"])
        bus.connected = False
        whoever_comes_meanwhile = await event(stream(page))

    assert (told, whoever_comes_meanwhile["away"]) == ([False, True, False], True)


@pytest.mark.parametrize(
    "path",
    ["/x", "/api", "/api/runs/", "/api/runs/x", f"/api/runs/{S.run}/x", f"/api/runs/{S.run}/rounds/", f"/api/runs/{S.run}/rounds/7",
     f"/api/runs/{S.run}/rounds/-1", f"/api/runs/{S.run}/rounds/²", f"/api/runs/{S.run}/rounds/1/x", "/page.css/", "/static/page.css"],
)  # fmt: skip
async def test_what_is_not_there_is_said_not_to_be(path: str) -> None:
    bus = MemoryBus()
    await bus.log.state(S.submitted())

    async with page_on(bus) as page:
        assert read(page, path) == 404


async def test_a_run_its_rounds_and_its_placement_are_documents_of_their_own() -> None:
    bus = MemoryBus()
    for number, fact in enumerate(S.whole()):
        await bus.log.state(fact.model_copy(update={"at": fact.at + timedelta(milliseconds=number)}))

    async with page_on(bus) as page:
        (line,) = read(page, "/api/runs")
        run, round_, placed = (read(page, f"/api/runs/{S.run}{path}") for path in ("", "/rounds/2", "/placement"))

    assert {name: run[name] for name in line} == line
    assert [each["round"] for each in run["rounds_held"]] == [1, 2]
    assert (round_["round"], [each["outcome"] for each in round_["clusters"]]) == (2, ["answered", "declined"])
    assert [each["chosen"] for each in placed["clusters"]] == [True, True, False]
    assert (run["trace"], round_["trace"]) == ("", ""), "nobody said where traces are"
