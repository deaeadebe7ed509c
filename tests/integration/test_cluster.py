"""Three servers that keep every stream threefold: the loss of the one that leads changes nothing."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nats
import nats.errors
import pytest
from federation_story import ended, federation, learning, model_bytes, submit

from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.nats import Limits, open_bus
from fedplane.schemas.facts import Completed, Contributed

SERVERS = ("one", "two", "three")
READY_SECONDS = 30


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for it in sockets:
            it.bind(("127.0.0.1", 0))
        return [it.getsockname()[1] for it in sockets]


class Cluster:
    """Three nats-server processes on loopback."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(2 * len(SERVERS))
        self.clients = dict(zip(SERVERS, ports[:3], strict=True))
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name, route in zip(SERVERS, ports[3:], strict=True):
            configuration = directory / f"{name}.conf"
            configuration.write_text(
                f"server_name: {name}\nhost: 127.0.0.1\nport: {self.clients[name]}\n"
                f'jetstream {{ store_dir: "{directory / name}" }}\n'
                f'cluster {{ name: test, listen: "127.0.0.1:{route}", routes: [{routes}] }}\n'
            )
            log = (directory / f"{name}.log").open("wb")
            server = Path(sys.executable).parent / "nats-server"
            self.processes[name] = subprocess.Popen([server, "-c", configuration], stderr=log)

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{port}" for port in self.clients.values())

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    async def ready(self) -> None:
        """Wait until the servers have chosen a leader among themselves."""
        async with asyncio.timeout(READY_SECONDS):
            connection = await nats.connect(self.url.split(","))
            while True:
                try:
                    await connection.jetstream().account_info()
                    break
                except (nats.errors.Error, TimeoutError):
                    await asyncio.sleep(0.2)
            await connection.close()

    async def leader_of(self, stream: str) -> str:
        connection = await nats.connect(self.url.split(","))
        information = await connection.jetstream().stream_info(stream)
        await connection.close()
        assert information.cluster is not None
        return str(information.cluster.leader)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "servers").mkdir()
    it = Cluster(tmp_path / "servers")
    yield it
    it.stop()


async def test_a_cluster_that_loses_the_leader_of_its_log_completes_the_run_with_the_same_bytes(tmp_path, cluster: Cluster) -> None:
    memory = MemoryBus()
    async with federation(memory, tmp_path / "memory"):
        undisturbed = (await ended(memory, await submit(memory, learning())))[-1]
    assert isinstance(undisturbed, Completed)
    expected = await model_bytes(memory, undisturbed.model)

    await cluster.ready()
    async with open_bus(cluster.url, name="test", source="/test", limits=Limits(replicas=3, bulk_bytes=100_000_000)) as bus:
        async with federation(bus, tmp_path / "cluster"):
            run = await submit(bus, learning())
            async for batch in bus.log.tail([Contributed.pattern(run=run, round=1)]):
                if batch.records:
                    break
            cluster.kill(await cluster.leader_of("LOG"))
            facts = await ended(bus, run, seconds=90)
        completed = facts[-1]
        assert isinstance(completed, Completed), completed

        assert await model_bytes(bus, completed.model) == expected
    assert sum(process.poll() is not None for process in cluster.processes.values()) == 1
