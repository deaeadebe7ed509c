"""The command `events`: facts as lines, to be read by a person or piped into a program."""

import getpass
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

import typer

from fedplane.cli import lines, listening, runs
from fedplane.cli.absence import told_of_absence
from fedplane.cli.completing import AnyRun
from fedplane.cli.connection import HERE, LISTENING, Where, call
from fedplane.cli.listening import Until, Wanted
from fedplane.cli.saying import say
from fedplane.runtime.archive import structured_line
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Begin, Bus, Recorded

__all__ = ["events"]


def events(
    run: AnyRun = None,
    structured: Annotated[bool, typer.Option("--structured", help="Each fact as a CloudEvent in JSON, one a line.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the first fact instead of the next one.")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Begin with what was stored since then: 2026-03-02T12:00:00Z, or 15m ago.")
    ] = "",
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only facts of this type, as aggregated or round.failed; repeatable.")
    ] = None,
    subject: Annotated[
        str, typer.Option("--subject", metavar="PATTERN", help="Only facts under this pattern of NATS subjects, of any run.")
    ] = "",
    follow: Annotated[
        bool | None, typer.Option("--follow/--until-ended", help="Go on for ever, or until RUN has ended; the latter if RUN is given.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End with the last fact that there is now.")] = False,
    durable: Annotated[
        str, typer.Option("--durable", metavar="NAME", help="Have the bus remember, under this name, how far you have come.")
    ] = "",
    owner: Annotated[
        str, typer.Option("--owner", metavar="WHO", help="Whose the name is; another owner may not take it. You, if not given.")
    ] = "",
    forget: Annotated[str, typer.Option("--forget", metavar="NAME", help="Remember that name no longer, and print nothing.")] = "",
    where: Where = HERE,
) -> None:
    """Print facts as they are stated.

    The facts of one run stop when it has ended, those of all runs never do.

    With --durable, the next time goes on behind the last line that was written, however this time ended; a line may come twice.

    Example: fedplane events mnist --from-start

    Example: fedplane events --type aggregated --since 2h --structured

    Example: fedplane events --durable audit --from-start --structured >> audit.jsonl
    """
    whose = owner or _login()
    until = _until(run, follow, no_wait)
    begin = _begin(from_start, since)
    if forget and (run or durable):
        raise BadInput("--forget removes a name and prints nothing; leave RUN and --durable away")
    if subject and (run or types):
        raise BadInput("--subject says all; leave RUN and --type away, or --subject")
    if until is Until.NOW and begin is None and not durable and not forget:
        raise BadInput("--no-wait ends with what there is now, and without --from-start or --since it begins there; give one of them")

    async def body(bus: Bus) -> None:
        if forget:
            await bus.subscriptions.forget(forget, whose)
            return
        found = None if run is None else await runs.find(bus, run)
        wanted = Wanted(found, listening.kinds_of(types or (), found), listening.checked_pattern(subject), begin, until)
        async with told_of_absence(bus):
            await (_print_durable(bus, wanted, structured, durable, whose) if durable else _print(bus, wanted, structured))

    call(where, body, LISTENING)


async def _print(bus: Bus, wanted: Wanted, structured: bool) -> None:
    printed = False
    async with aclosing(listening.facts(bus, wanted)) as facts:
        async for record in facts:
            say(_line(record, structured))
            printed = True
    if not printed and wanted.begin is None:
        typer.echo(f"{wanted.run} has ended; --from-start shows what happened", err=True)


async def _print_durable(bus: Bus, wanted: Wanted, structured: bool, name: str, owner: str) -> None:
    is_new = await listening.subscribe(bus, wanted, name, owner)
    if not is_new and wanted.begin is not None:
        typer.echo(f"{name} was there before, and goes on where it was; `fedplane events --forget {name}` lets it begin anew", err=True)
    async with aclosing(listening.heard(bus, wanted, name)) as subscription:
        async for handed in subscription:
            if handed.record is not None:
                say(_line(handed.record, structured))
            await handed.done()


def _line(record: Recorded, structured: bool) -> str:
    return structured_line(record).decode() if structured else lines.fact_line(record)


def _begin(from_start: bool, since: str) -> Begin | None:
    if from_start and since:
        raise BadInput("--from-start and --since are two beginnings; give one of them")
    return 0 if from_start else listening.since_when(since, datetime.now(UTC)) if since else None


def _until(run: str | None, follow: bool | None, no_wait: bool) -> Until:
    if no_wait:
        if follow is not None:
            raise BadInput("--no-wait is an end of its own; leave --follow and --until-ended away")
        return Until.NOW
    if follow is False and run is None:
        raise BadInput("--until-ended needs to know of which run: fedplane events RUN --until-ended")
    return Until.ENDED if run is not None and not follow else Until.NEVER


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "nobody"
