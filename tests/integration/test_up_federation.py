"""A federation around a real nats-server: what survives its end, whom it keeps out, what it needs of the machine."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedplane.cli import federation as federation_module
from fedplane.cli.deployment import Deployment
from fedplane.cli.directory import Directory
from fedplane.cli.federation import federation
from fedplane.cli.orphans import command_line
from fedplane.cli.supervisor import Process, Stages
from fedplane.runtime.errors import Unavailable
from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.ports import Viewed
from fedplane.schemas.facts import Advertised

VIEW = Viewed("run-1", b"{}", 1)


def nothing_else(_: Deployment) -> Stages:
    """A table with nothing beside the server."""
    return ()


def two_sleepers(_: Deployment) -> Stages:
    sleep = (sys.executable, "-ISc", "import time; time.sleep(60)")
    return [[Process("scheduler", sleep)], [Process("collaborator-a", sleep)]]


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_new_federation_has_room_for_all_streams_and_the_next_one_finds_what_was_stored(tmp_path: Path):
    async with federation(tmp_path, port=0, table=nothing_else, insecure=True) as up:
        first_url = up.nats_url
        async with open_bus(up.nats_url, name="test", source="/test", limits=Limits()) as bus:
            await bus.views.put(VIEW)

    async with (
        federation(tmp_path, table=nothing_else, insecure=True) as up,
        open_bus(up.nats_url, name="test", source="/test") as bus,
    ):
        assert up.nats_url == first_url
        assert await bus.views.get(VIEW.key) == VIEW


async def test_a_server_that_is_killed_comes_back_at_the_same_address_with_what_was_stored(tmp_path: Path):
    async with (
        federation(tmp_path, port=0, table=nothing_else, insecure=True) as up,
        open_bus(up.nats_url, name="test", source="/test", limits=Limits()) as bus,
    ):
        await bus.views.put(VIEW)
        killed = up.pid_of("nats-server")
        up.kill("nats-server")
        await _until(lambda: up.pids.get("nats-server", killed) != killed)

        async with open_bus(up.nats_url, name="test again", source="/test") as again:
            assert await again.views.get(VIEW.key) == VIEW


async def test_a_federation_that_asks_for_certificates_finds_what_one_without_has_stored_and_the_other_way_round(tmp_path: Path):
    async with (
        federation(tmp_path, port=0, table=nothing_else, insecure=True) as up,
        open_bus(up.nats_url, name="test", source="/test", limits=Limits()) as bus,
    ):
        await bus.views.put(VIEW)

    async with (
        federation(tmp_path, port=0, table=nothing_else) as up,
        open_bus(up.nats_url, name="test", source="/test", credentials=up.credentials) as bus,
    ):
        assert await bus.views.get(VIEW.key) == VIEW

    async with (
        federation(tmp_path, port=0, table=nothing_else, insecure=True) as up,
        open_bus(up.nats_url, name="test", source="/test") as bus,
    ):
        assert await bus.views.get(VIEW.key) == VIEW


async def test_a_server_shows_its_new_certificate_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(federation_module, "RENEWAL_SECONDS", 0.05)
    async with federation(tmp_path, port=0, table=nothing_else) as up:
        address, pid = ("127.0.0.1", int(up.nats_url.rpartition(":")[2])), up.pid_of("nats-server")
        shown = await asyncio.to_thread(ssl.get_server_certificate, address)
        Directory.at(tmp_path).keys.joinpath("nats.pem").unlink()
        await _until(lambda: Directory.at(tmp_path).keys.joinpath("nats.pem").exists())
        async with asyncio.timeout(20):
            while await asyncio.to_thread(ssl.get_server_certificate, address) == shown:
                await asyncio.sleep(0.05)

        assert up.pid_of("nats-server") == pid


async def test_it_is_ready_when_its_clusters_have_said_what_they_have_since_it_was_started(tmp_path: Path):
    (tmp_path / "clusters.yaml").write_text("clusters: [{name: a}, {name: b}]")
    directory, long_ago = Directory.at(tmp_path), datetime(2026, 1, 1, tzinfo=UTC)

    async def up() -> bool:
        async with federation(
            tmp_path, clusters=tmp_path / "clusters.yaml", port=0, table=nothing_else, insecure=True, clusters_seconds=60
        ):
            record = directory.read_record()
            return record is not None and record.ready

    running = asyncio.create_task(up())
    await _until(lambda: (record := directory.read_record()) and "nats-server" in record.processes)
    begun = directory.read_record()
    assert begun is not None
    async with open_bus(begun.nats_url, name="test", source="/test", limits=Limits()) as bus:
        for cluster, at in (("a", long_ago), ("b", datetime.now(UTC)), ("a", datetime.now(UTC))):
            record = directory.read_record()
            assert record is not None and not record.ready
            await bus.log.state(Advertised(cluster=cluster, at=at, lease_seconds=60))
            await asyncio.sleep(0.3)
    assert await running


async def test_a_cluster_that_says_nothing_is_named_and_the_others_are_not_kept_waiting(tmp_path: Path):
    (tmp_path / "clusters.yaml").write_text("clusters: [{name: a}]")
    said: list[tuple[str, str]] = []

    async with federation(
        tmp_path,
        clusters=tmp_path / "clusters.yaml",
        port=0,
        table=nothing_else,
        insecure=True,
        clusters_seconds=0.2,
        say=lambda *each: said.append(each),
    ):
        pass

    assert ("collaborator-a", "has not said yet what its cluster has") in said


async def test_up_json_says_what_runs_at_every_moment_and_is_gone_with_it(tmp_path: Path):
    directory = Directory.at(tmp_path)
    async with federation(tmp_path, port=0, table=two_sleepers, insecure=True) as up:
        record = directory.read_record()
        assert record is not None
        assert (record.pid, record.nats_url, record.ready) == (os.getpid(), up.nats_url, True)
        assert record.processes == up.pids
        assert list(up.pids) == ["nats-server", "scheduler", "collaborator-a"]

        killed = up.pid_of("scheduler")
        up.kill("scheduler", signal.SIGTERM)
        await _until(lambda: up.pids.get("scheduler", killed) != killed)
        record = directory.read_record()
        assert record is not None
        assert record.processes == up.pids
        pids = up.pids

    assert directory.read_record() is None
    assert [command_line(pid) for pid in pids.values()] == ["", "", ""]


async def test_without_restart_a_killed_process_is_not_there_any_more(tmp_path: Path):
    async with federation(tmp_path, port=0, table=two_sleepers, insecure=True, restart=False) as up:
        up.kill("scheduler")
        await _until(lambda: "scheduler" not in up.pids)

        with pytest.raises(Unavailable, match="no process scheduler runs at this moment; there are collaborator-a, nats-server"):
            up.pid_of("scheduler")


async def test_clusters_are_remembered_with_their_claims_resolved(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "clusters.yaml").write_text("clusters: [{name: a, claims: {data: data, name: logs}}]")
    state = tmp_path / "state"
    seen: list[dict[str, str]] = []

    def see(deployment: Deployment) -> Stages:
        seen.extend(cluster.claims for cluster in deployment.clusters)
        return ()

    async with federation(state, clusters=tmp_path / "clusters.yaml", port=0, table=see, insecure=True):
        pass
    async with federation(state, table=see, insecure=True) as up:
        assert [cluster.name for cluster in up.clusters] == ["a"]

    assert seen == [{"data": str(tmp_path / "data"), "name": "logs"}] * 2


async def test_a_second_federation_in_the_same_directory_is_refused_and_the_first_goes_on(tmp_path: Path):
    async with federation(tmp_path, port=0, table=nothing_else, insecure=True) as up:
        pids = up.pids
        with pytest.raises(Unavailable, match=rf"already up, pid {os.getpid()}, at {up.nats_url}; `fedplane down .*` ends it"):
            async with federation(tmp_path, port=0, table=nothing_else, insecure=True):
                pytest.fail("two at once")

        assert up.pids == pids
        assert Directory.at(tmp_path).read_record() is not None


async def test_a_port_in_use_is_refused_before_anything_is_started_and_the_directory_is_free_again(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} of this machine is in use"):
            async with federation(tmp_path, port=port, table=nothing_else, insecure=True):
                pytest.fail("it was started")

    assert Directory.at(tmp_path).holder() is None
    assert Directory.at(tmp_path).read_record() is None
    async with federation(tmp_path, port=port, table=nothing_else, insecure=True) as up:
        assert up.nats_url == f"nats://127.0.0.1:{port}"


async def test_a_server_that_cannot_use_its_store_is_reported_with_its_own_words(tmp_path: Path):
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "jetstream").touch()

    with pytest.raises(
        Unavailable, match=r"(?s)nats-server died before it was ready; its last words, .*storage directory is not a directory"
    ):
        async with federation(tmp_path, port=0, table=nothing_else, insecure=True):
            pytest.fail("it was started")


async def test_a_directory_whose_name_needs_quoting_is_no_trouble(tmp_path: Path):
    state = tmp_path / 'état "b" $HOME # {}'

    async with federation(state, port=0, table=nothing_else, insecure=True):
        assert (state / "nats" / "jetstream").is_dir()


KEEPER = """
import asyncio, pathlib, sys
from fedplane.cli.federation import federation

async def main():
    async with federation(pathlib.Path(sys.argv[1]), port=0, insecure=True, table=lambda deployment: ()) as up:
        print(up.nats_url, flush=True)
        await up.wait()

asyncio.run(main())
"""


def _kept_and_killed(state: Path) -> tuple[int, str]:
    """A process that keeps a federation until it is killed, which is soon: its pid, and where the bus was."""
    with subprocess.Popen([sys.executable, "-c", KEEPER, str(state)], stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        url = keeper.stdout.readline().strip()
        keeper.kill()
    return keeper.pid, url


async def test_after_a_kill_nine_of_the_keeper_the_next_one_replaces_its_record_and_goes_on_at_the_same_address(tmp_path: Path):
    pid, url = _kept_and_killed(tmp_path)
    stale = Directory.at(tmp_path).read_record()
    assert stale is not None
    assert (stale.pid, stale.nats_url) == (pid, url)

    async with federation(tmp_path, table=nothing_else, insecure=True) as up:
        record = Directory.at(tmp_path).read_record()
        assert record is not None
        assert (record.pid, record.nats_url, up.nats_url) == (os.getpid(), url, url)
        assert command_line(stale.processes["nats-server"]) == ""
