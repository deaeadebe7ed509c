"""The command `forward`: its options, its help, and what it says while it works.

The address and the headers may be secrets, so both can come from where a list of processes does not show them.
Of the address only the host is printed, of the headers nothing.
"""

from datetime import UTC
from typing import Annotated

import typer

from fedplane.cli import forwarding, listening, runs
from fedplane.cli.connection import HERE, Where, call
from fedplane.cli.exits import Exit
from fedplane.cli.saying import say
from fedplane.cli.verdicts import Again, Dead, Delivered, Patience, Verdict
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Bus, Recorded
from fedplane.schemas.names import NAME_CHARACTERS_MAX, is_name

__all__ = ["forward"]

PATIENCE = Patience()

Address = Annotated[
    str, typer.Argument(metavar="ADDRESS", envvar="FEDPLANE_FORWARD_TO", help="Where facts are posted to: https://...", show_default=False)
]


def forward(
    address: Address = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="What this forwarder is called: by it, it goes on where it left.")] = "",
    run: Annotated[list[str] | None, typer.Option(metavar="RUN", help="Only facts of this run; may be repeated.")] = None,
    type_: Annotated[list[str] | None, typer.Option("--type", metavar="TYPE", help="Only these facts, as run.completed.")] = None,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Send this header; may be repeated.")] = None,
    header_file: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="A header whose value is in the file, read each time.")
    ] = None,
    header_env: Annotated[list[str] | None, typer.Option(metavar="NAME=VARIABLE", help="A header whose value is in that variable.")] = None,
    structured: Annotated[bool, typer.Option("--structured", help="One JSON document per fact, not headers and a body.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="If the name is new, begin with the first fact.")] = False,
    once: Annotated[bool, typer.Option("--once", help="End when everything that is on the log is settled.")] = False,
    attempts: Annotated[int, typer.Option(min=1, max=1000, help="How often a fact is tried.")] = PATIENCE.attempts_max,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=600, help="How long an answer may take.")] = 10.0,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="How many facts are on their way at a time.")] = forwarding.AT_ONCE,
    dead: Annotated[str, typer.Option("--dead", metavar="NAME", help="List what that forwarder could not deliver, and why.")] = "",
    again: Annotated[str, typer.Option("--again", metavar="NAME", help="Send that to ADDRESS once more.")] = "",
    where: Where = HERE,
) -> None:
    """Post facts to a webhook as CloudEvents, each at least once, those of a run in order.

    What is answered by 2xx is delivered. No answer, 408, 425, 429 and 5xx are tried again, in growing intervals.

    Anything else, and what was tried too often, becomes a dead letter on the bus.

    Example: fedplane forward https://registry.example.org/hook --name registry --type run.completed

    Example: fedplane forward --dead registry
    """
    _check(address, name, dead, again)
    if dead:
        call(where, lambda bus: _list_dead(bus, dead))
        return
    from fedplane.cli import posting  # noqa: PLC0415 -- it loads an HTTP library, which no other command should wait for

    given = ((header, "value"), (header_file, "file"), (header_env, "variable"))
    headers = [posting.header(text, kind) for texts, kind in given for text in texts or ()]
    poster = posting.Poster(address, headers, structured=structured, timeout_seconds=timeout)
    patience = Patience(attempts_max=attempts)

    async def body(bus: Bus) -> Exit:
        async with poster:
            if again:
                delivered, still_dead = await forwarding.send_again(bus, again, poster.post, _tell, patience)
                typer.echo(f"{delivered} delivered to {poster.shown}, {still_dead} dead", err=True)
                return Exit.FAILED if still_dead else Exit.DONE
            found = list(dict.fromkeys([await runs.find(bus, each) for each in run or ()]))
            kinds = listening.kinds_of(type_ or (), found[0] if found else None)
            wanted = [pattern for each in found or (None,) for pattern in listening.Wanted(each, kinds).patterns]
            typer.echo(f"forwarding to {poster.shown} as {name}", err=True)
            await forwarding.forward(
                bus, name, wanted, poster.post, _tell, begin=0 if from_start else None, once=once, patience=patience, at_once=at_once
            )
            return Exit.DONE

    if code := call(where, body):
        raise typer.Exit(code)


def _check(address: str, name: str, dead: str, again: str) -> None:
    for each in filter(None, (name, dead, again)):
        if not is_name(each):
            raise BadInput(f"{each!r} is no name: lower-case letters, digits and dashes, {NAME_CHARACTERS_MAX} at most")
    if not dead and not address:
        raise BadInput("say where facts are posted to: `fedplane forward https://... --name NAME`")
    if not dead and not again and not name:
        raise BadInput("give the forwarder a name, by which it goes on where it left: --name NAME")


def _tell(record: Recorded, verdict: Verdict, attempts: int) -> None:
    """A line for each attempt: what is settled well to standard output, what is not to standard error."""
    what = f"{record.sequence} {record.fact.subject}"
    match verdict:
        case Delivered():
            say(f"{what} delivered")
        case Again():
            say(f"{what} {verdict.reason}; attempt {attempts + 1} at {verdict.at.astimezone(UTC):%H:%M:%S} UTC", err=True)
        case Dead():
            say(f"{what} is dead: {verdict.reason}", err=True)


async def _list_dead(bus: Bus, name: str) -> None:
    found = 0
    async for letter in bus.letters.of(name):
        found += 1
        say(f"{letter.record.sequence} {letter.record.fact.subject} {letter.at:%Y-%m-%d %H:%M:%S} {letter.reason}")
    typer.echo(f"{name} has {found or 'no'} dead letter{'' if found == 1 else 's'}", err=True)
