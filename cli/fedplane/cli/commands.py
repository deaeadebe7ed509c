"""The commands that ask something of a running federation, or take something from it; `viewing` has those that show how it is.

Each is its options, its help, and a few lines that join the modules that do the work.

What a program wants goes to standard output; what is only for a person goes to standard error. With `-o` there is a document of it.
"""

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from fedplane.cli import display, lines, listening, manifest, outcomes, requests, runs, starting
from fedplane.cli.checkpoints import checkpoint
from fedplane.cli.completing import RunName
from fedplane.cli.connection import HERE, Where, call, same
from fedplane.cli.download import save, size
from fedplane.cli.exits import Exit
from fedplane.cli.keeping import Outcome
from fedplane.cli.keeping import keep as keep_model
from fedplane.cli.listening import Until, Wanted
from fedplane.cli.output import FormatOption, Output, ResultOption, tell
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Archived, Cancelled, Completed, Failed, Kept
from fedplane.schemas.models import Model
from fedplane.schemas.views import Phase

__all__ = ["cancel", "keep", "model", "submit"]

FIRST_WORD_SECONDS = 5.0
"""How long `submit` waits for the run to start, to wait or to fail, which takes milliseconds; then the person is better told than kept."""


def submit(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file with one FederatedLearning; kubectl takes it, too.")],
    source: Annotated[
        str, typer.Option("--from", metavar="MODEL", help="Start from this model: an ended RUN, RUN@N, or a file, folder or s3:// address.")
    ] = "",
    wait: Annotated[bool, typer.Option(help="Wait some seconds for what the scheduler says first.")] = True,
    output: ResultOption = Output.TABLE,
    where: Where = HERE,
) -> None:
    """Ask for a run.

    Its id goes to standard output, what becomes of it at first to standard error: it is started, it waits, or it has failed.

    Example: fedplane submit mnist.yaml

    Example: fedplane submit mnist.yaml --from mnist-5f3a9c1e

    Example: fedplane submit mnist.yaml -o json

    In a script: RUN=$(fedplane submit mnist.yaml) && fedplane watch "$RUN"
    """
    resource = requests.read(file)

    async def body(bus: Bus) -> None:
        run, sequence = await starting.submit(bus, resource, source, _now())
        if output is Output.TABLE:
            typer.echo(run)  # at once, for whoever reads it from a pipe
        word = await runs.first_word(bus, run, sequence, FIRST_WORD_SECONDS) if wait else None
        if output is not Output.TABLE or word is not None:
            tell(output, outcomes.submitted(run, word), "" if word is None else "\n".join(lines.word_lines(word)))
        elif wait:
            typer.echo(f"the scheduler has said nothing for {FIRST_WORD_SECONDS:g} s; the run is on the log and waits for it", err=True)
        if isinstance(word, Failed):
            raise typer.Exit(Exit.FAILED)
        typer.echo(f"`{same(context, f'watch {run}')}` follows it", err=True)

    call(where, body)


def cancel(
    run: RunName,
    reason: Annotated[str, typer.Option(help="Why, for those who look at the run later.")] = "cancelled at the command line",
    output: ResultOption = Output.TABLE,
    where: Where = HERE,
) -> None:
    """End a run.

    One that has ended stays as it is.

    Example: fedplane cancel mnist --reason "wrong data"
    """

    async def body(bus: Bus) -> None:
        found = await runs.find(bus, run)
        ended, ours = await runs.cancel(bus, found, _now(), reason)
        when = f"{ended.at:%Y-%m-%d %H:%M:%S %Z}"
        match ended:
            case Cancelled():
                said = f"{found} is cancelled" if ours else f"{found} was cancelled before, at {when}"
                tell(output, outcomes.cancelled(found, ended, ours), said)
            case Completed() | Failed():
                how = "completed" if isinstance(ended, Completed) else f"failed ({ended.reason})"
                raise BadInput(f"{found} {how} at {when}; there is nothing to cancel")

    call(where, body)


def model(
    run: RunName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The safetensors file to write; an old one is replaced.")],
    latest: Annotated[bool, typer.Option("--latest", help="Take the last round's model if the run has not completed.")] = False,
    training_round: Annotated[
        int | None, typer.Option("--round", metavar="N", min=0, help="Take the model of that training round, if it is still stored.")
    ] = None,
    form: FormatOption = Output.TABLE,
    where: Where = HERE,
) -> None:
    """Download a run's model as a safetensors file.

    It appears under its name only when it is whole and every digest is right.

    How many of the older ones stay is said by spec.rounds.checkpoints; the best one does as well, if spec.rounds.stop names a metric.

    Example: fedplane model mnist -o mnist.safetensors

    Example: fedplane model mnist --round 7 -o mnist-7.safetensors
    """

    async def body(bus: Bus) -> None:
        found = await runs.find(bus, run)
        wanted = await _model_of(bus, found, latest) if training_round is None else await checkpoint(bus, found, training_round)
        with _progress() as bar:
            task = bar.add_task(output.name, total=size(wanted))
            await save(bus.bulk, wanted, output, lambda more: bar.advance(task, more))
        which = "the model" if training_round is None else f"the model of training round {training_round}"
        tell(form, outcomes.downloaded(found, wanted, training_round, output), f"{output}: {size(wanted)} bytes, {which} of {found}")

    call(where, body)


def keep(
    run: RunName,
    to: Annotated[
        str, typer.Option("--to", metavar="PLACE", help="A folder, a file, or an s3:// address; a name with a dot in it is a file.")
    ],
    training_round: Annotated[
        int | None, typer.Option("--round", metavar="N", min=0, help="Keep the model after that training round, if it is still stored.")
    ] = None,
    only_newer: Annotated[bool, typer.Option("--only-newer", help="Leave a model alone whose run ended after this one.")] = False,
    known_as: Annotated[
        str, typer.Option("--known-as", metavar="FOLDER", help="State on the bus that the model is kept, in a folder that others call so.")
    ] = "",
    output: ResultOption = Output.TABLE,
    where: Where = HERE,
) -> None:
    """Keep an ended run's model where it outlives the bus.

    That is model.safetensors, and manifest.json, which says what it is: run, round, members, metrics, digests.

    Both appear whole or not at all, and are read back. What is kept already is not written again.

    Example: fedplane keep mnist --to models/mnist

    Example: fedplane keep mnist --to s3://models/mnist
    """

    async def body(bus: Bus) -> None:
        found = await runs.find(bus, run)
        end = await runs.end_of(bus, found)
        if end is None:
            raise BadInput(f"{found} goes on; its model can be kept when it has ended")
        if training_round is not None:
            await checkpoint(bus, found, training_round)  # or the person is told which models are stored
        async with aclosing(listening.facts(bus, Wanted(found, begin=0, until=Until.ENDED))) as facts:
            wanted, origin = manifest.origin([record.fact async for record in facts], training_round)
        with _progress() as bar:
            task = bar.add_task(found, total=size(wanted))
            outcome, place = await keep_model(
                bus.bulk, wanted, origin, to, only_newer=only_newer, advanced=lambda more: bar.advance(task, more)
            )
        if known_as and outcome is not Outcome.LATER and not isinstance(end, Archived):
            location = f"{known_as.rstrip('/')}/{place.rpartition('/')[2]}"
            await bus.log.state(Kept(run=found, at=_now(), round=wanted.round, location=location))
        what = {Outcome.KEPT: "kept", Outcome.THERE: "was kept before", Outcome.LATER: "was not kept: a later run's model is there"}
        said = f"{place}: the model of training round {origin.training_round} of {found} {what[outcome]}"
        tell(output, outcomes.kept(place, outcome, origin, wanted), said)

    call(where, body)


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    console = display.console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


async def _model_of(bus: Bus, run: str, latest: bool) -> Model:
    view = await runs.view_of(bus, run)
    if view.model is None:
        raise BadInput(f"{view.run} is {view.phase} and has no model yet: no round has been aggregated")
    if view.phase is not Phase.COMPLETED and not latest:
        raise BadInput(f"{view.run} is {view.phase}; --latest takes the model that it has by now")
    return view.model


def _now() -> datetime:
    return datetime.now(UTC)
