"""What trust costs: connecting by certificate and authorizer, and moving bytes and facts through TLS, against a server that lets in all.

Two servers run side by side, one as `fedplane up` starts it and one as `fedplane up --insecure` does, with nothing else on them.
In between is a connection by TLS with a password, for which the server asks nobody: what it takes more is TLS, and the rest the authorizer.
Client, server and authorizer share this machine's cores. Clients are tasks of one Python process, which does most of a handshake's work.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from measuring import MB, Report, options, scratch
from nats.aio.client import Client
from simulated import quiet

from fedplane.cli.credentials import read_bundle
from fedplane.cli.deployment import Deployment
from fedplane.cli.federation import federation
from fedplane.cli.keys import Keys
from fedplane.cli.supervisor import Stages
from fedplane.runtime.nats import Credentials, Limits, NatsBus, Patience, open_bus
from fedplane.runtime.nats.connection import CONTROL_PENDING_BYTES, close, connect
from fedplane.schemas.facts import Advertised
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import model_piece

RUN = "security"

AT_ONCE = 32
"""Connections that are being made at a time: clusters come back together when a server was away."""

BAR_MILLISECONDS = 50.0
"""Median, for a connection by the authorizer: a cluster's rights change within a second, and it makes two connections then."""

BAR_SHARE = 0.3
"""Of the rate in plain text. Python decrypts on the core that it works on, so TLS may cost twice as much as all the rest."""

PATIENCE = Patience(connect_seconds=60)
STORE_BYTES = 5_000_000_000
CHUNK_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    connections: int
    megabytes: int
    transfers: int
    facts: int


SMOKE = Extent(connections=4, megabytes=2, transfers=1, facts=10)
QUICK = Extent(connections=64, megabytes=50, transfers=5, facts=200)
FULL = Extent(connections=300, megabytes=200, transfers=9, facts=2_000)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of being let in."""

    name: str
    url: str
    credentials: Credentials | None = None


PLAIN, PASSWORD, AUTHORIZED = "plain text", "TLS and a password", "TLS and the authorizer"


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[tuple[dict[str, Way], Keys]]:
    """The two servers, and the ways into them."""

    def nothing(deployment: Deployment) -> Stages:
        return ()

    async with (
        federation(folder / "plain", port=0, store_bytes=STORE_BYTES, table=nothing, insecure=True) as plain,
        federation(folder / "guarded", port=0, store_bytes=STORE_BYTES, table=nothing) as guarded,
    ):
        keys = Keys(folder / "guarded" / "keys")
        known = read_bundle(keys.bundle(Role.SCHEDULER))  # a cluster may have few connections, and those that have ended count for a while
        with_password = guarded.nats_url.replace("tls://", f"tls://system:{keys.system_password.read_text()}@")
        ways = (Way(PLAIN, plain.nats_url), Way(PASSWORD, with_password, known), Way(AUTHORIZED, guarded.nats_url, known))
        yield {way.name: way for way in ways}, keys


async def connecting(way: Way, number: int) -> tuple[list[float], float]:
    """How long each of so many connections took, one after the other, and how many a second there were side by side."""
    alone = []
    for _ in range(number):
        begun = time.perf_counter()
        connection = await _connected(way)
        alone.append(time.perf_counter() - begun)
        await close(connection)
    room = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with room:
            await close(await _connected(way))

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(number)))
    return alone, number / (time.perf_counter() - begun)


async def _connected(way: Way) -> Client:
    return await connect(way.url, "security", CONTROL_PENDING_BYTES, PATIENCE, credentials=way.credentials)


async def moving(buses: dict[str, NatsBus], megabytes: int, times: int) -> dict[tuple[str, str], list[float]]:
    """Megabytes a second to store bytes and to read them again, on each side in turns."""
    data = memoryview(bytes(megabytes * MB))
    found: dict[tuple[str, str], list[float]] = {(what, side): [] for what in ("store", "read") for side in buses}
    for number in range(times + 1):
        for side, bus in buses.items():
            subject = model_piece(RUN, number, "a", 0)
            begun = time.perf_counter()
            piece = await bus.bulk.write(subject, data, CHUNK_BYTES)
            stored = time.perf_counter()
            async for _ in bus.bulk.read(piece):
                pass
            if number:  # the first ones make the connections
                found["store", side].append(megabytes / (stored - begun))
                found["read", side].append(megabytes / (time.perf_counter() - stored))
            await bus.bulk.purge(f"{subject}.>")
    return found


async def stating(buses: dict[str, NatsBus], facts: int) -> dict[str, list[float]]:
    """How long each fact took to be stored, one after the other, on each side in turns."""
    found: dict[str, list[float]] = {side: [] for side in buses}
    for number in range(facts):
        for side, bus in buses.items():
            fact = Advertised(at=datetime.now(UTC), cluster=f"c{number}", lease_seconds=15)
            begun = time.perf_counter()
            await bus.log.state(fact)
            found[side].append(time.perf_counter() - begun)
    return found


async def measure(report: Report, extent: Extent, folder: Path) -> None:
    """All of it."""
    async with servers(folder) as (ways, keys), AsyncExitStack() as stack:
        roles = {role: await _sides(stack, ways, keys, role) for role in (Role.SCHEDULER, Role.AGGREGATOR)}
        connected = {name: await connecting(way, extent.connections) for name, way in ways.items()}
        stated = await stating(roles[Role.SCHEDULER], extent.facts)
        moved = await moving(roles[Role.AGGREGATOR], extent.megabytes, extent.transfers)
    least = statistics.median(connected[PLAIN][0])
    rows: list[list[Any]] = [
        [name, 1e3 * statistics.median(alone), 1e3 * max(alone), statistics.median(alone) / least, at_once]
        for name, (alone, at_once) in connected.items()
    ]
    columns = ["", "median ms", "max ms", f"times {PLAIN}", f"a second, {AT_ONCE} at once"]
    report.table(f"a connection, of {extent.connections}", columns, rows)
    report.bar("a connection by the authorizer, ms", rows[-1][1], at_most=BAR_MILLISECONDS)
    _ratios(report, f"a fact, of {extent.facts}, ms", {"state": {side: [1e3 * each for each in times] for side, times in stated.items()}})
    by_way = {what: {side: moved[what, side] for side in (PLAIN, AUTHORIZED)} for what in ("store", "read")}
    _ratios(report, f"{extent.megabytes} MB in chunks, MB/s", by_way)
    for what, sides in by_way.items():
        share = statistics.median(sides[AUTHORIZED]) / statistics.median(sides[PLAIN])
        report.bar(f"{what} {extent.megabytes} MB by TLS, share of plain text", share, at_least=BAR_SHARE)


async def _sides(stack: AsyncExitStack, ways: dict[str, Way], keys: Keys, role: Role) -> dict[str, NatsBus]:
    known = {PLAIN: None, AUTHORIZED: read_bundle(keys.bundle(role))}
    open_ = {
        side: open_bus(ways[side].url, name=str(role), source="/security", limits=Limits(), patience=PATIENCE, credentials=credentials)
        for side, credentials in known.items()
    }
    return {side: await stack.enter_async_context(each) for side, each in open_.items()}


def _ratios(report: Report, title: str, found: dict[str, dict[str, list[float]]]) -> None:
    rows = []
    for what, sides in found.items():
        plain, guarded = statistics.median(sides[PLAIN]), statistics.median(sides[AUTHORIZED])
        rows.append([what, plain, guarded, guarded / plain])
    report.table(title, ["", PLAIN, "TLS", "TLS by plain"], rows)


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    report = Report(
        "security",
        "the network, where a handshake takes two round trips more; disks; other programs than Python; a server that many ask at once while"
        " it moves bytes; the authorizer's own look at the log",
    )
    quiet()
    with scratch() as folder:
        uvloop.run(measure(report, SMOKE if told.smoke else QUICK if told.quick else FULL, folder))
    report.finish(told)


if __name__ == "__main__":
    main()
