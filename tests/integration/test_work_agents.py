"""Works carried out on clusters: the containers that we ask for, as processes, on a real bus; and what becomes of those that fail."""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conftest import NatsServer
from work_agent import Image, WorkAgent, agent
from work_story import OUTFIT, begin, declined, invite, join, learning, now, scheduler, until, until_works

from fedplane.runtime.kinds import MANIFEST_WORK
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.memory_cluster import MemoryCluster
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.scheduler.pods import Outfit
from fedplane.scheduler.standing import Patience
from fedplane.schemas.facts import Cancelled, Declined, Scheduled, Submitted
from fedplane.schemas.models import Chosen

OURS = Image(Path(sys.executable))
PATIENT = Patience(start_seconds=30, refusal_seconds=30)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="fp") as name:
        yield Path(name)


@asynccontextmanager
async def bus_of(server: NatsServer) -> AsyncIterator[NatsBus]:
    async with open_bus(server.url, name="test", source="/test", limits=Limits()) as bus:
        yield bus


def program(directory: Path, body: str) -> Image:
    """An image whose Python is a program of ours; its arguments are in `sys.argv` all the same."""
    file = directory / "python3"
    file.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    file.chmod(0o755)
    return Image(file)


def logged(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def test_a_work_starts_a_collaborator_that_reaches_the_bus_and_its_end_leaves_nothing(
    nats_server: NatsServer, directory: Path
) -> None:
    hub, outfit = MemoryCluster(), Outfit("ours:1", nats_server.url)
    await join(hub, "a")
    async with (
        bus_of(nats_server) as bus,
        scheduler(bus.log, hub, outfit, PATIENT),
        agent(WorkAgent(hub, "a", directory, {"ours:1": OURS}, without=("app",))) as it,
    ):
        await begin(bus.log, "r-1", "a")
        await until(lambda: has(directory / "r-1/collaborator.log", "event=ready"), True)
        await until(lambda: reported(hub, "a", "r-1"), {"active": 1, "ready": 1})
        runner = directory / "r-1/shared/runner"
        said = await asyncio.create_subprocess_exec(sys.executable, runner, "--help", stdout=asyncio.subprocess.PIPE)
        usage, _ = await said.communicate()

        await bus.log.state(Cancelled(run="r-1", at=now()))
        await until_works(hub)
        left = await asyncio.create_subprocess_exec("pgrep", "-f", str(directory), stdout=asyncio.subprocess.PIPE)
        found, _ = await left.communicate()

        assert usage.startswith(b"usage: fedplane_runner")
        assert (found, it.running) == (b"", {})


async def has(file: Path, word: str) -> bool:
    return word in logged(file)


async def reported(hub: MemoryCluster, cluster: str, run: str) -> dict[str, int]:
    work = await hub.get(MANIFEST_WORK, run, cluster)
    manifests = (work or {}).get("status", {}).get("resourceStatus", {}).get("manifests", [])
    return {each["name"]: each["fieldValue"].get("integer") for each in manifests[0]["statusFeedback"]["values"]} if manifests else {}


async def test_an_app_that_ends_again_and_again_fails_the_job_and_its_cluster_declines(directory: Path) -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a")
    waiting, failing = directory / "ours", directory / "app"
    waiting.mkdir(), failing.mkdir()
    images = {
        "ours:1": program(waiting, "sys.argv[1] == '-m' and 'installing' in sys.argv[2] or time.sleep(60)"),
        "app:1": program(failing, "print('out of luck'); sys.exit(3)"),
    }
    async with scheduler(bus.log, hub, OUTFIT, PATIENT), agent(WorkAgent(hub, "a", directory, images)):
        await begin(bus.log, "r-1", "a")
        await invite(bus.log, "r-1", "a")
        fact = await declined(bus.log, "r-1", "a")
        printed = logged(directory / "r-1/app.log")
        await bus.log.state(Cancelled(run="r-1", at=now()))
        await until_works(hub)

    assert (fact.reason, fact.message) == ("failed", "the work has failed on the cluster: Job has reached the specified backoff limit")
    assert printed == "out of luck\n" * 6


async def test_an_image_that_is_not_to_be_had_makes_its_cluster_decline_and_no_other(directory: Path) -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a", "b")
    image = program(directory, "'fedplane.collaborator.installing' in sys.argv or time.sleep(60)")
    everything, ours = {"ours:1": image, "app:1": image}, {"ours:1": image}
    patience = Patience(start_seconds=2, refusal_seconds=2)
    async with (
        scheduler(bus.log, hub, OUTFIT, patience),
        agent(WorkAgent(hub, "a", directory / "a", everything)),
        agent(WorkAgent(hub, "b", directory / "b", ours)),
    ):
        await begin(bus.log, "r-1", "a", "b")
        for cluster in ("a", "b"):
            await invite(bus.log, "r-1", cluster)
        fact = await declined(bus.log, "r-1", "b")

    assert fact.reason == "not-started"
    assert {each.fact.cluster for each in bus.log.records if isinstance(each.fact, Declined)} == {"b"}


async def test_what_a_cluster_says_of_its_data_reaches_the_app_letter_by_letter(directory: Path) -> None:
    bus, hub = MemoryBus(), MemoryCluster()
    await join(hub, "a")
    hostile = "\"'; touch /fedplane/x #$(FEDPLANE_RUN) $$ `id`\n\r\t--socket=/etc\u202e" + "x" * 900
    image = program(directory, f"json.dump([sys.argv[1:], dict(os.environ)], open({str(directory / 'told')!r} + str(len(sys.argv)), 'w'))")
    template = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]}
    resource = learning(client={"image": "app:1", "template": template})
    async with scheduler(bus.log, hub, OUTFIT, PATIENT), agent(WorkAgent(hub, "a", directory, {"ours:1": image, "app:1": image})):
        await bus.log.state(Submitted(run="r-1", at=now(), resource=resource))
        participant = Chosen(cluster="a", score=0, terms=(), data=hostile)
        await bus.log.state(Scheduled(run="r-1", at=now(), participants=(participant,), refused=()))
        await until(lambda: reported(hub, "a", "r-1"), {"active": 0, "ready": 0, "succeeded": 1})

    shared = directory / "r-1/shared"
    (arguments, environment) = json.loads((directory / "told6").read_text())
    assert arguments == [
        str(shared / "runner"), "--framework=flower", "--app=.", f"--socket={shared / 'app.sock'}", f"--data-path={hostile}",
    ]  # fmt: skip
    assert (environment["A"], environment["B"]) == ("1", "12")
    assert not any(name.startswith("FEDPLANE_") for name in environment)
    _, ours = json.loads((directory / "told3").read_text())
    assert (ours["FEDPLANE_REPLICA"], ours["FEDPLANE_WORKDIR"]) == ("r-1-x7k2p", str(shared / "work"))
