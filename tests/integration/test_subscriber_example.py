"""The example of a subscriber, a process with nothing of fedplane: what it writes when it is killed, and when everything comes again."""

import ast
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from conftest import NatsServer
from sources import ROOT

from fedplane.runtime.nats import Limits, open_bus
from fedplane.schemas.envelope import write
from fedplane.schemas.facts import Aggregated, Fact, Started
from fedplane.schemas.models import Task

PROGRAM = ROOT / "examples/10-subscribe/subscribe.py"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def aggregated(round_: int, **metrics: float) -> Aggregated:
    return Aggregated(
        at=NOON,
        run="mnist-5f3a9c1e",
        round=round_,
        task=Task.EVALUATE,
        training_round=round_ // 2,
        members=("a",),
        weight=1,
        metrics=metrics,
    )


def line(fact: Aggregated) -> str:
    return f"{write(fact, '/test').id},{fact.run},{fact.training_round},{fact.metrics['accuracy']:.4f}\n"


def state(server: NatsServer, *facts: Fact) -> None:
    async def stated() -> None:
        async with open_bus(server.url, name="test", source="/test", limits=Limits()) as bus:
            for fact in facts:
                await bus.log.state(fact)

    asyncio.run(stated())


def forget_the_place(server: NatsServer) -> None:
    """The consumer is removed, so that everything comes again."""

    async def forgotten() -> None:
        import nats

        connection = await nats.connect(server.url)
        await connection.jetstream().delete_consumer("LOG", "accuracy")
        await connection.close()

    asyncio.run(forgotten())


@contextmanager
def subscriber(server: NatsServer, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """The program, until it is killed."""
    process = subprocess.Popen([sys.executable, "-I", PROGRAM, server.url], cwd=directory, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str], lines: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(lines)]


def test_each_rounds_accuracy_is_written_once_whatever_comes_again(nats_server: NatsServer, tmp_path: Path) -> None:
    first, second, third = aggregated(2, accuracy=0.735), aggregated(4, accuracy=0.862, loss=0.4), aggregated(6, accuracy=0.9)
    state(nats_server, Started(at=NOON, run="mnist-5f3a9c1e", strategy="fedavg", training_rounds=3), aggregated(1, loss=2.0), first)

    with subscriber(nats_server, tmp_path) as process:
        assert said(process, 1) == [line(first)]
    state(nats_server, second)
    with subscriber(nats_server, tmp_path) as process:
        assert said(process, 1) == [line(second)]
    forget_the_place(nats_server)
    state(nats_server, third)
    with subscriber(nats_server, tmp_path) as process:
        assert said(process, 1) == [line(third)]

    assert (tmp_path / "accuracy.csv").read_text() == line(first) + line(second) + line(third)


def test_it_needs_nothing_but_nats() -> None:
    imported = [node for node in ast.walk(ast.parse(PROGRAM.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]

    names = {alias.name for node in imported for alias in node.names} | {str(getattr(node, "module", "")) for node in imported}
    assert {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"Path", "", "None"} == {"nats"}
