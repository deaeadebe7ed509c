"""Which federation a command speaks to, and speaking to it.

The address comes from `--url` or its environment variable, else from what a running `fedplane up` recorded in its directory.
"""

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer

from fedplane.cli.directory import Directory
from fedplane.runtime.errors import BadInput, Unreachable
from fedplane.runtime.exporting import exporting
from fedplane.runtime.nats import Patience, open_bus, without_secrets
from fedplane.runtime.ports import Bus
from fedplane.runtime.settings import TelemetrySettings, read

__all__ = ["LISTENING", "StateOption", "UrlOption", "address", "call", "same"]

T = TypeVar("T")

CONNECT_SECONDS = 3.0
"""A person waits; a server that is up answers in milliseconds, across continents in a second."""

ASKING = Patience(connect_seconds=CONNECT_SECONDS)
LISTENING = Patience(connect_seconds=CONNECT_SECONDS, silence_seconds=2.0)
"""How patient a command is. One that listens looks for a server that vanished more often: a person sits before it."""

SOURCE = "/fedplane/cli"
"""The source of the facts that the command line states."""

SCHEMES = frozenset({"nats", "tls", "ws", "wss"})
"""What a server's address may begin with; without any, it is nats."""


def _said(context: typer.Context, url: str | None) -> str | None:
    """A directory that is named on the command line means more than a variable that was set some time ago."""
    return None if (_source(context, "url"), _source(context, "state")) == ("ENVIRONMENT", "COMMANDLINE") else url


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return "" if source is None else source.name


UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="FEDPLANE_NATS_URL",
        help="The federation's NATS server; that of `fedplane up` if not given.",
        callback=_said,
    ),
]
StateOption = Annotated[Path, typer.Option("--state", metavar="DIR", envvar="FEDPLANE_STATE", help="The directory of `fedplane up`.")]


class _Traces(TelemetrySettings):
    """A command's spans are part of its run's trace. Its counters would begin at nothing each time and be of use to nobody."""

    @property
    def sends_metrics(self) -> bool:
        """See `TelemetrySettings`."""
        return False


def address(url: str | None, state: Path) -> str:
    """The address of the server. Raises Unreachable if none is given and no federation is up in the directory, BadInput for no address."""
    if url:
        if not all(map(_is_address, url.split(","))):  # it is not repeated: what is wrong may be the password that stands in it
            raise BadInput("--url names no server: it is nats://HOST:PORT, and a user and password before HOST have no , / ? or # in them")
        strange = sorted({each.partition("://")[0] for each in url.split(",") if "://" in each} - SCHEMES)
        if strange:
            known = ", ".join(sorted(SCHEMES))
            raise BadInput(f"--url {without_secrets(url)}: a NATS server's address begins with {known}, not with {', '.join(strange)}")
        return url
    directory = Directory.at(state)
    record = directory.read_record()
    if record is None:
        raise Unreachable(f"no federation is up in {directory.path}")
    return record.nats_url


def _is_address(each: str) -> bool:
    try:
        parts = urlsplit(each if "://" in each else f"nats://{each}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, or a port that is no number
        return False


def same(context: typer.Context, words: str) -> str:
    """What a person types to have `fedplane WORDS` mean the federation that this command was given; variables hold on by themselves."""
    told = [name for name in ("url", "state") if _source(context, name) == "COMMANDLINE"]
    return " ".join(["fedplane", words, *(f"--{name} {shlex.quote(str(context.params[name]))}" for name in told)])


def call(url: str | None, state: Path, body: Callable[[Bus], Awaitable[T]], patience: Patience = ASKING) -> T:
    """Connect to the federation, do this with it, disconnect."""
    where = address(url, state)

    async def connected() -> T:
        async with open_bus(where, name="fedplane", source=SOURCE, patience=patience) as bus:
            return await body(bus)

    with exporting("cli", str(os.getpid()), read(_Traces)):
        return asyncio.run(connected())
