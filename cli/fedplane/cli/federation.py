"""A whole federation on one machine, for as long as a block runs.

    async with federation(Path(".fedplane"), clusters=Path("clusters.yaml")) as up:
        ... talk to up.nats_url, with up.credentials ...

This is what `fedplane up` does until somebody ends it, and what programs and tests use that need a real federation.
It holds no state of its own: everything is in the server's store, and the keys are in the same directory.
So a second block with the same directory goes on where the first ended, however that one ended.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from fedplane.cli import clusters as clusters_file
from fedplane.cli.accounts import ACCOUNT, guarded
from fedplane.cli.clusters import Cluster
from fedplane.cli.credentials import keep_secret
from fedplane.cli.deployment import AGGREGATORS_DEFAULT, Deployment, authorizer, roles
from fedplane.cli.directory import Directory, Record
from fedplane.cli.keys import Keys
from fedplane.cli.logs import Logs
from fedplane.cli.orphans import end_orphans
from fedplane.cli.page import choose_page_port, page_url
from fedplane.cli.server import (
    Configuration,
    check_room,
    choose_port,
    choose_store_bytes,
    environment,
    find_server,
    settle_store,
    wait_for_release,
)
from fedplane.cli.supervisor import PATIENCE, Patience, Process, Say, Stages, Supervisor
from fedplane.runtime.errors import BusError, FedplaneError, Unavailable
from fedplane.runtime.nats import open_bus
from fedplane.schemas.facts import Advertised
from fedplane.schemas.roles import Role

__all__ = ["Up", "federation"]

RENEWAL_SECONDS = 6 * 3600.0
"""How often a federation that lasts looks whether its certificates do. They have ten days left when they are made anew."""


class Up:
    """A federation that runs."""

    def __init__(self, deployment: Deployment, supervisor: Supervisor) -> None:
        self.nats_url = deployment.nats_url
        self.credentials = deployment.credentials
        self.page_url = page_url(deployment.page_port)
        self.clusters = deployment.clusters
        self.logs = supervisor.logs
        self._supervisor = supervisor

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run at this moment, by name: nats-server, scheduler, aggregator-0, status, collaborator-hospital-a, ..."""
        return dict(self._supervisor.pids)

    def pid_of(self, name: str) -> int:
        """The pid of a process. Raises Unavailable when it does not run at this moment."""
        if name not in self._supervisor.pids:
            raise Unavailable(f"no process {name} runs at this moment; there are {', '.join(sorted(self._supervisor.pids))}")
        return self._supervisor.pids[name]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a process a signal."""
        os.kill(self.pid_of(name), number)

    async def wait(self) -> None:
        """Wait until a process has to be given up, which raises Unavailable. Never returns."""
        await self._supervisor.wait()


@asynccontextmanager
async def federation(
    state: Path,
    *,
    clusters: Path | None = None,
    port: int | None = None,
    aggregators: int = AGGREGATORS_DEFAULT,
    store_bytes: int | None = None,
    page_port: int | None = None,
    insecure: bool = False,
    restart: bool = True,
    patience: Patience = PATIENCE,
    clusters_seconds: float = 0.0,
    say: Say = lambda name, said: None,
    table: Callable[[Deployment], Stages] = roles,
) -> AsyncIterator[Up]:
    """Run a federation in a state directory until the block ends.

    Clusters, port and store are those of the last time unless given; port 0 is any free one, and then so is the page's.
    With `insecure` there is no TLS and no authorizer, and every process of this machine may do everything.
    `table` says what runs beside the server; `restart` whether what dies is started again.
    It is ready when its clusters have said what they have, or have not for `clusters_seconds`: what is asked before misses some of them.
    Raises Unavailable when this machine cannot do it, BadInput when the clusters file cannot be used.
    """
    directory = Directory.at(state)
    with directory.held():
        deployment, stages = _prepare(directory, clusters, port, aggregators, store_bytes, page_port, insecure, table)
        record = _Recorder(deployment, say)
        supervisor = Supervisor(stages, Logs(directory.logs), patience=patience, restart=restart, say=record.notice)
        record.pids = supervisor.pids
        renewing = asyncio.create_task(_renew(deployment, supervisor))
        try:
            record.write()
            await supervisor.start()
            for name in await _silent(deployment, record.started_at, clusters_seconds):
                say(f"collaborator-{name}", "has not said yet what its cluster has")
            record.write(ready=True)
            yield Up(deployment, supervisor)
        finally:
            renewing.cancel()
            try:
                await supervisor.stop()
            finally:
                directory.record.unlink(missing_ok=True)


async def _silent(deployment: Deployment, since: datetime, wait_seconds: float) -> list[str]:
    """Wait for the clusters to advertise; who has not in so many seconds."""
    silent = {cluster.name for cluster in deployment.clusters}
    if not silent or not wait_seconds:
        return []
    with suppress(TimeoutError, BusError):  # a scheduler that does not come up is told of by the supervisor
        async with (
            asyncio.timeout(wait_seconds),
            open_bus(deployment.nats_url, name="up", source="/fedplane/up", credentials=deployment.credentials) as bus,
        ):
            async for batch in bus.log.tail([Advertised.pattern()]):
                facts = [record.fact for record in batch.records if isinstance(record.fact, Advertised)]
                silent -= {fact.cluster for fact in facts if fact.at >= since}
                if not silent:
                    break
    return sorted(silent)


def _prepare(
    directory: Directory,
    clusters: Path | None,
    port: int | None,
    aggregators: int,
    store_bytes: int | None,
    page_port: int | None,
    insecure: bool,
    table: Callable[[Deployment], Stages],
) -> tuple[Deployment, Stages]:
    """Everything that can be found out and written down before a process is started."""
    program = find_server()
    earlier = Configuration.read(directory.configuration)
    record = directory.read_record()
    if record is not None:  # its writer was killed
        end_orphans(record.processes.values(), directory.path)
        if earlier is not None:
            wait_for_release(earlier.port)
    configuration = Configuration(choose_port(port, earlier), choose_store_bytes(store_bytes, earlier))
    check_room(directory.store, configuration.store_bytes)
    chosen = choose_page_port(page_port, any_free=port == 0)
    keys = None if insecure else Keys(directory.keys)
    deployment = Deployment(directory, configuration, _clusters(directory, clusters), aggregators, chosen, keys)
    command = (str(program), "-c", str(directory.configuration))
    bus = Process("nats-server", command, environment(len(deployment.clusters)), port=configuration.port)
    if keys is None:
        Keys(directory.keys).provide_secrets(deployment.noise)
        settle_store(directory.store, "$G")
        directory.write(directory.configuration, configuration.render(directory.store))
        return deployment, ((bus,), *table(deployment))
    keys.provide([cluster.name for cluster in deployment.clusters], datetime.now(UTC))
    settle_store(directory.store, ACCOUNT)
    keep_secret(directory.configuration, configuration.render(directory.store, guarded(keys)))
    return deployment, ((bus,), (authorizer(deployment, keys),), *table(deployment))


async def _renew(deployment: Deployment, supervisor: Supervisor) -> None:
    """Make certificates anew in time, as long as the federation lasts.

    Clients read theirs whenever they connect, and the server when it is told to.
    """
    while deployment.keys is not None:
        await asyncio.sleep(RENEWAL_SECONDS)
        try:
            if deployment.keys.provide([cluster.name for cluster in deployment.clusters], datetime.now(UTC)):
                os.kill(supervisor.pids["nats-server"], signal.SIGHUP)
                supervisor.say("nats-server", "was told to read its new certificate")
        except (FedplaneError, LookupError, ProcessLookupError) as error:
            supervisor.say("keys", f"could not be made anew: {error}")


def _clusters(directory: Directory, path: Path | None) -> tuple[Cluster, ...]:
    """The clusters of a file, remembered for the next time; without a file, those that are remembered, if any."""
    if path is None:
        return clusters_file.read(directory.clusters) if directory.clusters.exists() else ()
    clusters = tuple(clusters_file.resolved(cluster, path.absolute().parent) for cluster in clusters_file.read(path))
    directory.write(directory.clusters, clusters_file.render(clusters))
    return clusters


class _Recorder:
    """Writes `up.json` anew whenever something became of a process."""

    def __init__(self, deployment: Deployment, say: Say) -> None:
        self.deployment = deployment
        self.say = say
        self.pids: dict[str, int] = {}
        self.started_at = datetime.now(UTC)
        self.ready = False

    def notice(self, name: str, said: str) -> None:
        self.write()
        self.say(name, said)

    def write(self, ready: bool = False) -> None:
        self.ready |= ready
        record = Record(
            pid=os.getpid(),
            nats_url=self.deployment.nats_url,
            page_url=page_url(self.deployment.page_port),
            credentials=None if self.deployment.keys is None else self.deployment.keys.bundle(Role.OPERATOR),
            insecure=self.deployment.keys is None,
            started_at=self.started_at,
            ready=self.ready,
            processes=dict(self.pids),
        )
        self.deployment.directory.write_record(record)
