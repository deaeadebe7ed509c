"""Which federation a command speaks to, and speaking to it.

The address comes from `--url` or its environment variable, else from what a running `fedplane up` recorded in its directory.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fedplane.cli.directory import Directory
from fedplane.runtime.errors import Unreachable
from fedplane.runtime.nats import Patience, open_bus
from fedplane.runtime.ports import Bus

__all__ = ["StateOption", "UrlOption", "address", "call", "same"]

T = TypeVar("T")

CONNECT_SECONDS = 3.0
"""A person waits; a server that is up answers in milliseconds, across continents in a second."""

SOURCE = "/fedplane/cli"
"""The source of the facts that the command line states."""

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", envvar="FEDPLANE_NATS_URL", help="The federation's NATS server; that of `fedplane up` if not given."
    ),
]
StateOption = Annotated[Path, typer.Option("--state", metavar="DIR", envvar="FEDPLANE_STATE", help="The directory of `fedplane up`.")]


def address(url: str | None, state: Path) -> str:
    """The address of the server. Raises Unreachable if none is given and no federation is up in the directory."""
    if url:
        return url
    directory = Directory.at(state)
    record = directory.read_record()
    if record is None:
        raise Unreachable(f"no federation is up in {directory.path}")
    return record.nats_url


def same(context: typer.Context, words: str) -> str:
    """What a person types to have `fedplane WORDS` mean the federation that this command was given; variables hold on by themselves."""
    sources = {name: context.get_parameter_source(name) for name in ("url", "state")}
    told = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    return " ".join(["fedplane", words, *(f"--{name} {shlex.quote(str(context.params[name]))}" for name in told)])


def call(url: str | None, state: Path, body: Callable[[Bus], Awaitable[T]]) -> T:
    """Connect to the federation, do this with it, disconnect."""
    where = address(url, state)

    async def connected() -> T:
        patience = Patience(connect_seconds=CONNECT_SECONDS)
        async with open_bus(where, name="fedplane", source=SOURCE, patience=patience) as bus:
            return await body(bus)

    return asyncio.run(connected())
