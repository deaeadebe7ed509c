"""The commands that show how things are: runs, one run as it goes on, why its clusters were chosen, and the clusters themselves.

They read views and advertisements, decide nothing and change nothing. All of them take `-o`.
"""

from datetime import UTC, datetime
from typing import Annotated

import typer

from fedplane.cli import display, explanation, runs, watching
from fedplane.cli.completing import AnyRun, RunName
from fedplane.cli.connection import HERE, LISTENING, Where, call
from fedplane.cli.exits import Exit
from fedplane.cli.output import Output, OutputOption, show
from fedplane.cli.runs import Judged
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Advertised
from fedplane.schemas.views import Phase, RunView

__all__ = ["clusters", "explain", "get", "watch"]


def get(run: AnyRun = None, output: OutputOption = Output.TABLE, where: Where = HERE) -> None:
    """Show runs: their phase, how far they are, and why.

    Example: fedplane get

    Example: fedplane get -o wide

    Example: fedplane get mnist -o json
    """

    async def body(bus: Bus) -> list[RunView]:
        return await runs.every(bus) if run is None else [await runs.view_of(bus, await runs.find(bus, run))]

    views = call(where, body)
    if not views and output.is_for_people:
        typer.echo("There are no runs yet; `fedplane submit FILE` asks for one.", err=True)
        return
    documents = [view.model_dump(mode="json") for view in views]
    show(output, documents if run is None else documents[0], lambda wide: display.run_table(views, _now(), wide=wide))


def watch(run: RunName, output: OutputOption = Output.TABLE, where: Where = HERE) -> None:
    """Follow a run until it ends.

    The exit code is 0 if it completed, 1 if it failed or was cancelled.

    On a terminal, one picture: progress of the run and of its round, its clusters, the results of the last rounds and where they lead.

    Of a round with more than twenty clusters it shows how many are how far, who is lost, and the slowest; -o wide lists them all.

    Elsewhere, a line for each change. With -o json, a document for each change, one a line.

    When the bus is away it says so, and goes on when it is back.

    Example: fedplane watch mnist

    Example: fedplane watch mnist -o json | jq .phase
    """

    async def body(bus: Bus) -> RunView:
        return await watching.watch(bus, await runs.find(bus, run), output=output)

    if call(where, body, LISTENING).phase is not Phase.COMPLETED:
        raise typer.Exit(Exit.FAILED)


def explain(
    run: RunName,
    every: Annotated[bool, typer.Option("--all", help="Show each cluster, however many there are, page by page on a terminal.")] = False,
    output: OutputOption = Output.TABLE,
    where: Where = HERE,
) -> None:
    """Show why each cluster takes part in a run, or does not.

    That is every filter that it was asked, the one that refused it with the reason, and every term of its score.

    More than forty clusters are summed up by what became of them, unless --all is given.

    Example: fedplane explain mnist

    Example: fedplane explain mnist --all -o wide
    """

    async def body(bus: Bus) -> tuple[str, list[Judged]]:
        found = await runs.find(bus, run)
        return found, await runs.judged(bus, found)

    found, everyone = call(where, body)
    wide = output is Output.WIDE
    screen = display.console(wide=wide)
    if every and output.is_for_people and screen.is_terminal:
        with screen.pager():
            screen.print(explanation.explanation(everyone, wide=wide, every=True), crop=False)
    else:
        show(output, explanation.document(found, everyone), lambda wide: explanation.explanation(everyone, wide=wide, every=every))


def clusters(output: OutputOption = Output.TABLE, where: Where = HERE) -> None:
    """Show the clusters of the federation, as each advertised itself last.

    One that is silent has not been heard of within its lease, and is given no new run.

    Example: fedplane clusters

    Example: fedplane clusters -o wide
    """

    async def body(bus: Bus) -> list[Advertised]:
        return await runs.fleet(bus)

    fleet = call(where, body)
    if not fleet and output.is_for_people:
        typer.echo("No cluster has advertised itself yet; `fedplane up --clusters FILE` starts some on this machine.", err=True)
        return
    show(output, [fact.model_dump(mode="json") for fact in fleet], lambda wide: display.cluster_table(fleet, _now(), wide=wide))


def _now() -> datetime:
    return datetime.now(UTC)
