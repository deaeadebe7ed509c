"""What the showing commands read and say, on a bus in memory: views as they change, the clusters, and why they were chosen."""

import asyncio
import json
from io import StringIO

import pytest
import yaml
from rich.console import Console
from view_story import NOON, RUN, view_after

from fedplane.cli import absence, runs
from fedplane.cli.absence import AWAY, BACK
from fedplane.cli.output import Output
from fedplane.cli.watching import Picture, watch
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.ports import Viewed
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.models import Refused
from fedplane.schemas.views import RunView

SCHEDULED = next(fact for fact in EXAMPLES if isinstance(fact, facts.Scheduled))


async def show(bus: MemoryBus, view: RunView) -> None:
    await bus.views.put(Viewed(view.run, view.model_dump_json().encode(), view.sequence))


@pytest.mark.parametrize(("output", "read"), [(Output.JSON, json.loads), (Output.YAML, yaml.safe_load)])
async def test_a_program_that_watches_reads_a_document_for_each_change(
    output: Output, read: object, capsys: pytest.CaptureFixture[str]
) -> None:
    bus, view = MemoryBus(), view_after(facts.Completed)
    await show(bus, view)

    last = await watch(bus, RUN, output=output)

    assert last == view
    assert read(capsys.readouterr().out) == view.model_dump(mode="json")  # type: ignore[operator]


@pytest.mark.parametrize("output", [Output.TABLE, Output.WIDE])
async def test_where_there_is_no_terminal_a_person_reads_lines(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    bus = MemoryBus()
    await show(bus, view_after(facts.Completed))

    await watch(bus, RUN, output=output)

    assert capsys.readouterr().out.splitlines()[-1].endswith("Completed: 3 training rounds done. accuracy=0.97")


async def test_a_terminal_that_cannot_draw_has_lines_as_well(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    bus = MemoryBus()
    await show(bus, view_after(facts.Completed))

    await watch(bus, RUN)

    assert capsys.readouterr().out.splitlines()[-1].endswith("Completed: 3 training rounds done. accuracy=0.97")


async def test_an_explanation_is_read_from_the_log_which_has_all_of_it() -> None:
    bus = MemoryBus()
    await bus.log.state(SCHEDULED)
    await show(bus, view_after(facts.Scheduled).model_copy(update={"participants": (), "refused": ()}))

    refused = sorted(SCHEDULED.refused, key=lambda each: each.cluster)
    assert await runs.judged(bus, RUN) == [*SCHEDULED.participants, *refused]


async def test_of_a_run_that_waits_or_is_archived_it_is_read_from_the_view() -> None:
    bus = MemoryBus()
    of_b, of_a = (Refused(cluster=name, reason="data", message="has none") for name in "ba")
    await show(bus, view_after(facts.Submitted).model_copy(update={"refused": (of_b, of_a)}))

    assert await runs.judged(bus, RUN) == [of_a, of_b]


async def test_the_fleet_is_what_each_cluster_said_last() -> None:
    bus = MemoryBus()
    earlier, later, other = (
        facts.Advertised(cluster=name, at=NOON, lease_seconds=lease) for name, lease in (("b", 15), ("b", 20), ("a", 15))
    )
    for fact in (earlier, later, other):
        await bus.log.state(fact)

    assert [(fact.cluster, fact.lease_seconds) for fact in await runs.fleet(bus)] == [("a", 15), ("b", 20)]


async def test_whoever_watches_is_told_that_the_bus_is_away_and_that_it_is_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absence, "LOOK_SECONDS", 0.001)
    bus = MemoryBus()
    await show(bus, view_after(facts.Started))
    watching = asyncio.create_task(watch(bus, RUN))
    said = ""

    async with asyncio.timeout(5):
        for connected, expected in ((False, AWAY), (True, BACK)):
            bus.connected = connected
            while not said.endswith(f"{expected}\n"):
                said += capsys.readouterr().err
                await asyncio.sleep(0.001)
    await show(bus, view_after(facts.Completed))

    assert ((await watching).ended, said.splitlines()) == (True, [AWAY, BACK])


def test_a_picture_says_that_the_bus_is_away() -> None:
    bus, screen = MemoryBus(), Console(file=StringIO(), width=100)
    picture = Picture(bus, wide=False)
    picture.view = view_after(facts.Started)
    texts = []
    for connected in (True, False):
        bus.connected = connected
        with screen.capture() as drawn:
            screen.print(picture)
        texts.append(drawn.get())

    assert [(AWAY in text, RUN in text) for text in texts] == [(False, True), (True, True)]
