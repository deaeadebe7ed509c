"""`fedplane demo`: the first minute. A real federation, a real run of an example, and what happened, in one command.

It uses what every user has: the federation of `fedplane up`, and what `submit`, `watch` and `model` do.
It adds the example's own preparation (private shards) and judgement (held-out data), which run in the example's environment.
At the end it gives a summary, a table for people and JSON for programs.
Each demo begins afresh: what an earlier one left is removed, unless it is still running.
"""

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fedplane.cli import display, requests, runs, summary
from fedplane.cli.directory import Directory
from fedplane.cli.download import save
from fedplane.cli.exits import Exit
from fedplane.cli.federation import federation
from fedplane.cli.summary import Judgement, Outcome
from fedplane.cli.watching import watch
from fedplane.runtime.errors import AppFailed, BadInput, Unavailable
from fedplane.runtime.nats import open_bus
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Advertised
from fedplane.schemas.views import Phase

__all__ = ["demo"]

EXAMPLE = Path("examples/01-mnist")
STATE = Path(".fedplane/demo")

ACCURACY_BAR = 0.93
"""What the example must reach on digits that nobody trained on; below it, something is wrong with us."""

PROGRAM_SECONDS = 120.0
"""How long the example's own programs may take; they need seconds."""

ADVERTISED_SECONDS = 30.0
"""How long the clusters may take to say what they have: a collaborator starts in a second, and in ten on a machine that does much else."""

STORE_BYTES = 1_000_000_000
"""The example moves a few hundred kilobytes a round; a laptop's nearly full disk is no reason not to try us."""


def demo(
    example: Annotated[Path, typer.Option(metavar="DIR", help="The example to run.")] = EXAMPLE,
    state: Annotated[Path, typer.Option(metavar="DIR", help="Where the federation keeps its state, logs and model; begun afresh.")] = STATE,
) -> None:
    """Run a whole federation on this machine, for one example, and show what happened.

    Real processes: the bus, the authorizer, the scheduler, two aggregators, the status service, and a collaborator per cluster.
    There are four clusters, each with its own private digits, and a certificate for each of them all. Ctrl-C ends them.

    Example: make demo
    """
    example, state = example.absolute(), state.absolute()
    python = example / ".venv" / "bin" / "python"
    if not (example / "federatedlearning.yaml").is_file():
        raise BadInput(f"{example} has no federatedlearning.yaml; run this from the repository, or name an example with --example")
    if not python.exists():
        raise BadInput(f"{example} has no environment of its own yet; `make app` makes it, and `make demo` does all there is to do")
    _begin_afresh(state)
    outcome = asyncio.run(_interruptible(example, python, state))
    (state / "summary.json").write_text(json.dumps(summary.document(outcome), indent=2) + "\n")
    display.console().print(summary.picture(outcome))
    if outcome.view.phase is not Phase.COMPLETED or outcome.judgement is None or outcome.judgement.accuracy < ACCURACY_BAR:
        raise typer.Exit(Exit.FAILED)


def _begin_afresh(state: Path) -> None:
    pid = Directory.at(state).holder()
    if pid is not None:
        raise Unavailable(f"a demo is running in {state}, pid {pid}; `fedplane down --state {state}` ends it")
    if state.exists():
        if not Directory.at(state).configuration.exists() and any(state.iterdir()):
            raise BadInput(f"{state} holds something that no demo made; name another directory with --state")
        shutil.rmtree(state)
    state.mkdir(parents=True)


async def _interruptible(example: Path, python: Path, state: Path) -> Outcome:
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    try:
        return await _demonstrate(example, python, state)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _demonstrate(example: Path, python: Path, state: Path) -> Outcome:
    begun = time.monotonic()
    screen = display.console()
    screen.print("1  Dealing out the data: each cluster gets its own digits, and 1,000 are kept for judging", style="bold")
    screen.print(await _run([python, "shards.py", "data"], example))
    screen.print("2  Starting a federation: nats-server, authorizer, scheduler, two aggregators, status, four collaborators", style="bold")
    async with (
        federation(state, clusters=example / "clusters.yaml", port=0, store_bytes=STORE_BYTES) as up,
        open_bus(up.nats_url, name="demo", source="/fedplane/demo", credentials=up.credentials) as bus,
    ):
        await _until_advertised(bus, {cluster.name for cluster in up.clusters}, state)
        screen.print("3  Submitting federatedlearning.yaml and watching", style="bold")
        run, _ = await runs.submit(bus, requests.read(example / "federatedlearning.yaml"), datetime.now(UTC))
        view = await watch(bus, run, transient=True)
        if view.phase is Phase.COMPLETED and view.model is not None:
            await save(bus.bulk, view.model, state / "model.safetensors")
    judgement = await _judge(example, python, state) if view.phase is Phase.COMPLETED else None
    return Outcome(view, judgement, state, example, Path.cwd(), time.monotonic() - begun)


async def _until_advertised(bus: Bus, silent: set[str], state: Path) -> None:
    """Wait until every cluster has spoken, so that the picture does not begin with clusters that are still starting."""
    try:
        async with asyncio.timeout(ADVERTISED_SECONDS):
            async for batch in bus.log.tail([Advertised.pattern()]):
                silent = silent - {record.fact.cluster for record in batch.records if isinstance(record.fact, Advertised)}
                if not silent:
                    return
    except TimeoutError as error:
        said = f"{', '.join(sorted(silent))} did not say within {ADVERTISED_SECONDS:g} s what they have"
        raise Unavailable(f"{said}; their collaborators' logs in {Directory.at(state).logs} tell why") from error


async def _judge(example: Path, python: Path, state: Path) -> Judgement:
    said = await _run([python, "evaluate.py", state / "model.safetensors", "data/heldout.npz"], example)
    try:
        return Judgement(**json.loads(said))
    except (ValueError, TypeError) as error:
        raise AppFailed("bad-judgement", f"evaluate.py said {said!r} instead of accuracy, loss and digits as JSON") from error


async def _run(command: Sequence[str | Path], directory: Path) -> str:
    """What one of the example's own programs prints."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PROGRAM_SECONDS):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise AppFailed("timed-out", f"{command[1]} was not done within {PROGRAM_SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise AppFailed("app-raised", f"{command[1]} ended with exit code {process.returncode}:\n{err.decode(errors='replace')[-2000:]}")
    return out.decode(errors="replace").rstrip()
