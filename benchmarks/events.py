"""How soon others hear of a fact: from the moment somebody states it to each subscriber, plain ones and durable ones.

A plain subscriber is a connection that hears what the server announces when it has stored a fact. A durable one asks the server for
what it has not had yet, and acknowledges each fact, so that it misses nothing while it is away.
Beside them the same bytes are published to as many connections by NATS alone, which stores nothing: the least that there can be.
Facts are stated one at a time, with a pause, so nothing waits behind anything else.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

import nats
import uvloop
from measuring import Report, Server, options, scratch
from nats.aio.msg import Msg
from simulated import bus_at, bus_of, quiet

from fedplane.runtime.ports import Bus, Subscription
from fedplane.schemas.facts import Declined

SUBSCRIBERS_SMOKE, FACTS_SMOKE = (1, 2), 10
SUBSCRIBERS_QUICK, FACTS_QUICK = (1, 10), 100
SUBSCRIBERS, FACTS = (1, 10, 100), 500

DURABLES_MAX = 10
"""Ten systems that must not miss a fact are a platform; the server remembers a hundred at most."""

PAUSE_SECONDS = 0.005
"""Between two facts: longer than a hundred subscribers on a loaded machine need for one."""

LISTENERS = 2
"""Processes that share the subscribers: one would measure how fast one Python program takes in a hundred messages."""

PATIENCE_SECONDS = 60.0

RUN = "events"
FACTS_OF_RUN = f"fed.v1.run.{RUN}.>"
RAW = f"raw.{RUN}.round.{{}}.declined.a"

BAR_MILLISECONDS = 50.0
"""Median, with the most subscribers: whoever looks at a page does not notice it."""

Heard = list[tuple[int, float]]
"""The number of what was heard, and when, on the clock that all processes of the machine share."""


def fact(number: int) -> Declined:
    """A fact with a sentence, as long as most are."""
    return Declined(
        run=RUN, round=number, cluster="a", at=datetime.now(UTC), reason="app-raised", message="the app raised ValueError: no such column",
    )  # fmt: skip


def number_of(subject: str) -> int:
    """Of the round that a subject names, be it a fact's or not."""
    tokens = subject.split(".")
    return int(tokens[tokens.index("round") + 1])


async def _plain(url: str, names: Sequence[str], expected: int, ready: Connection) -> Heard:
    heard: Heard = []
    done = asyncio.Event()

    async def hear(message: Msg) -> None:
        heard.append((number_of(message.subject), time.perf_counter()))
        if len(heard) == expected * len(names):
            done.set()

    connections = [await nats.connect(url) for _ in names]
    for connection in connections:
        await connection.subscribe(FACTS_OF_RUN, cb=hear)
        await connection.subscribe(RAW.format("*"), cb=hear)
        await connection.flush()
    ready.send(None)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
    for connection in connections:
        await connection.close()
    return heard


async def _durable(url: str, names: Sequence[str], expected: int, ready: Connection) -> Heard:
    heard: Heard = []

    async def hear(bus: Bus, name: str) -> None:
        await bus.subscriptions.make(Subscription(name, (FACTS_OF_RUN,), "benchmark"))
        left = expected
        async for handed in bus.subscriptions.read(name):
            if handed.record is not None and isinstance(handed.record.fact, Declined):
                heard.append((handed.record.fact.round, time.perf_counter()))
                await handed.done()
                left -= 1
            if not left:
                return

    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(bus_at(url, name)) for name in names]
        reading = [asyncio.create_task(hear(bus, name)) for bus, name in zip(buses, names, strict=True)]
        await asyncio.sleep(1.0)  # until their first requests wait at the server
        ready.send(None)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*reading)
    return heard


Listen = Callable[[str, Sequence[str], int, Connection], Coroutine[Any, Any, Heard]]
WAYS: dict[str, Listen] = {"NATS alone": _plain, "plain": _plain, "durable": _durable}


def _listener(listen: Listen, url: str, names: Sequence[str], expected: int, pipe: Connection) -> None:
    pipe.send(uvloop.run(listen(url, names, expected, pipe)))


@contextmanager
def listening(way: str, url: str, subscribers: int, facts: int) -> Iterator[list[Connection]]:
    """Processes that share so many subscribers, all of which listen; each sends at last what it has heard."""
    forking, names = multiprocessing.get_context("fork"), [f"listener-{number}" for number in range(subscribers)]
    processes, pipes = [], []
    for share in filter(None, (names[number::LISTENERS] for number in range(LISTENERS))):
        ours, theirs = forking.Pipe()
        process = forking.Process(target=_listener, args=(WAYS[way], url, share, facts, theirs), daemon=True)
        process.start()
        processes.append(process)
        pipes.append(ours)
    try:
        for pipe in pipes:
            pipe.recv()
        yield pipes
    finally:
        for process in processes:
            process.join(PATIENCE_SECONDS)


async def _said(way: str, url: str, facts: int) -> dict[int, float]:
    """When each fact was stated, or its bytes published. What comes afterwards, until a subscriber hears it, is what is measured."""
    said = {}
    async with bus_at(url, "stating") as bus:
        raw = await nats.connect(url)
        for number in range(facts):
            await asyncio.sleep(PAUSE_SECONDS)
            said[number] = time.perf_counter()
            if way == "NATS alone":
                await raw.publish(RAW.format(number), fact(number).model_dump_json().encode())
                await raw.flush()
            else:
                await bus.log.state(fact(number))
        await raw.close()
    return said


async def _declare(server: Server) -> None:
    async with bus_of(server, "declaring"):
        pass


def measure(server: Server, way: str, subscribers: int, facts: int) -> list[float]:
    """For every subscriber and fact, how long it took in seconds."""
    uvloop.run(_declare(server))
    with listening(way, server.url, subscribers, facts) as pipes:
        said = uvloop.run(_said(way, server.url, facts))
        heard = [each for pipe in pipes for each in pipe.recv()]
    return [at - said[number] for number, at in heard]


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    report = Report(
        "events", "the network; TLS and permissions; facts that come faster than they are heard; what a subscriber does with a fact"
    )
    quiet()
    numbers = SUBSCRIBERS_SMOKE if told.smoke else SUBSCRIBERS_QUICK if told.quick else SUBSCRIBERS
    facts = FACTS_SMOKE if told.smoke else FACTS_QUICK if told.quick else FACTS
    rows, medians = [], dict[tuple[str, int], float]()
    with scratch() as directory:
        for subscribers in numbers:
            for way in WAYS:
                if way == "durable" and subscribers > DURABLES_MAX:
                    continue
                with Server(directory / f"{way[0]}{subscribers}").running() as server:
                    took = measure(server, way, subscribers, facts)
                medians[way, subscribers] = statistics.median(took)
                p99 = statistics.quantiles(took, n=100)[-1]
                ratio = medians[way, subscribers] / medians["NATS alone", subscribers]
                rows.append((f"{subscribers}: {way}", len(took), 1e3 * medians[way, subscribers], 1e3 * p99, 1e3 * max(took), ratio))
    report.table("from stating a fact to hearing it", ("subscribers", "heard", "median ms", "p99 ms", "max ms", "times NATS alone"), rows)
    report.bar(f"a fact is heard by {numbers[-1]} plain subscribers, ms", 1e3 * medians["plain", numbers[-1]], at_most=BAR_MILLISECONDS)
    report.finish(told)


if __name__ == "__main__":
    main()
