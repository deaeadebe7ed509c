"""Which federation a command speaks to, as whom, and speaking to it.

The address comes from `--url` or its environment variable, else from what a running `fedplane up` recorded in its directory.
So do the credentials: from `--credentials`, else from the keys of that directory.
Plain text is spoken only if somebody says that it is meant so.
A command names none of these options. It has one parameter `where`, for which `addressed` gives it all of them.
"""

import asyncio
import inspect
import os
import re
import shlex
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer

from fedplane.cli.credentials import check_lasts, read_bundle
from fedplane.cli.directory import DEFAULT, Directory
from fedplane.runtime.errors import BadInput, Denied, Unreachable
from fedplane.runtime.exporting import exporting
from fedplane.runtime.nats import Credentials, Patience, open_bus, without_secrets
from fedplane.runtime.ports import Bus
from fedplane.runtime.settings import TelemetrySettings, read

__all__ = ["ASKING", "HERE", "LISTENING", "Server", "StateOption", "Where", "addressed", "call", "explained", "same"]

T = TypeVar("T")

CONNECT_SECONDS = 3.0
"""A person waits; a server that is up answers in milliseconds, across continents in a second."""

ASKING = Patience(connect_seconds=CONNECT_SECONDS)
LISTENING = Patience(connect_seconds=CONNECT_SECONDS, silence_seconds=2.0)
"""How patient a command is. One that listens looks for a server that vanished more often: a person sits before it."""

SOURCE = "/fedplane/cli"
"""The source of the facts that the command line states."""

SCHEMES = frozenset({"nats", "tls", "ws", "wss"})
"""What a server's address may begin with; without any, it is nats, and with credentials tls."""

SECURE = frozenset({"tls", "wss"})


def _said(context: typer.Context, parameter: typer.CallbackParam, given: T) -> T | None:
    """A directory that is named on the command line means more than a variable that was set some time ago."""
    variable = _source(context, parameter.name or "") == "ENVIRONMENT"
    return None if variable and _source(context, "state") == "COMMANDLINE" else given


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
CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        envvar="FEDPLANE_CREDENTIALS",
        help="The bundle that says who you are; that of `fedplane up` if not given.",
        callback=_said,
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option("--insecure", envvar="FEDPLANE_INSECURE", help="Speak plain text to the server, as nobody: for a network that you trust."),
]


@dataclass(frozen=True, slots=True)
class Server:
    """Where the bus is, and as whom we come: nobody, to one that lets everybody in."""

    url: str
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """What a command was told of the federation that it is to speak to. The names are those of its options."""

    url: str | None = None
    state: Path = DEFAULT
    credentials: Path | None = None
    insecure: bool = False

    @property
    def server(self) -> Server:
        """The server that is meant. Raises Unreachable if no federation is up in the directory, BadInput for what cannot be used."""
        if self.url:
            return self._named(self.url)
        directory = Directory.at(self.state)
        record = directory.read_record()
        if record is None:
            raise Unreachable(f"no federation is up in {directory.path}")
        bundle = self.credentials or record.credentials
        return Server(record.nats_url, None if record.insecure or bundle is None else read_bundle(bundle))

    def _named(self, url: str) -> Server:
        if not all(map(_is_address, url.split(","))):  # it is not repeated: what is wrong may be the password that stands in it
            raise BadInput("--url names no server: it is tls://HOST:PORT, and a user and password before HOST have no , / ? or # in them")
        schemes = {each.partition("://")[0] if "://" in each else "" for each in url.split(",")}
        if strange := sorted(schemes - SCHEMES - {""}):
            known = ", ".join(sorted(SCHEMES))
            raise BadInput(f"--url {without_secrets(url)}: a NATS server's address begins with {known}, not with {', '.join(strange)}")
        if self.credentials is not None:
            secure = ",".join(each if "://" in each else f"tls://{each}" for each in url.split(","))
            if schemes - {"tls", ""}:
                raise BadInput(f"--url {without_secrets(url)}: with credentials, a server's address begins with tls://")
            return Server(secure, read_bundle(self.credentials))
        if not self.insecure and not schemes <= SECURE:
            raise BadInput(
                f"--url {without_secrets(url)} is spoken to in plain text, and by anybody;"
                " --credentials FILE names the bundle that a secure one wants, and --insecure says that it is meant so"
            )
        return Server(url)


HERE = Where()
"""The federation of this directory."""

OPTIONS = tuple(
    inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=annotation)
    for each, annotation in zip(fields(Where), (UrlOption, StateOption, CredentialsOption, InsecureOption), strict=True)
)


def addressed(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that say where its federation is, if it has a parameter `where` for them."""
    signature = inspect.signature(command)
    if "where" not in signature.parameters:
        return command
    others = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values() if each.name != "where"]

    def run(**given: Any) -> None:
        where = Where(**{option.name: given.pop(option.name) for option in OPTIONS})
        command(**given, where=where)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {each.name: each.annotation for each in (*others, *OPTIONS)}
    run.__signature__ = inspect.Signature([*others, *OPTIONS])  # type: ignore[attr-defined]  # what `inspect` looks for first
    return run


class _Traces(TelemetrySettings):
    """A command's spans are part of its run's trace. Its counters would begin at nothing each time and be of use to nobody."""

    @property
    def sends_metrics(self) -> bool:
        """See `TelemetrySettings`."""
        return False


def _is_address(each: str) -> bool:
    try:
        parts = urlsplit(each if "://" in each else f"nats://{each}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, or a port that is no number
        return False


def same(context: typer.Context, words: str) -> str:
    """What a person types to have `fedplane WORDS` mean the federation that this command was given; variables hold on by themselves.

    A password that stands in the address is not repeated: what is printed is read by others, and kept.
    """
    told = [option.name for option in OPTIONS if _source(context, option.name) == "COMMANDLINE"]
    return " ".join(["fedplane", words, *(f"--{name}{_given(name, context.params[name])}" for name in told)])


def _given(name: str, value: object) -> str:
    return "" if value is True else f" {shlex.quote(_repeatable(str(value)) if name == 'url' else str(value))}"


def _repeatable(url: str) -> str:
    bare = without_secrets(url)
    return url if bare == url else ",".join(re.sub(r"^(\w+://)?", r"\1USER:PASSWORD@", each) for each in bare.split(","))


def call(where: Where, body: Callable[[Bus], Awaitable[T]], patience: Patience = ASKING) -> T:
    """Connect to the federation, do this with it, disconnect."""
    server = where.server

    async def connected() -> T:
        with explained(server):
            async with open_bus(server.url, name="fedplane", source=SOURCE, patience=patience, credentials=server.credentials) as bus:
                return await body(bus)

    with exporting("cli", str(os.getpid()), read(_Traces)):
        return asyncio.run(connected())


@contextmanager
def explained(server: Server) -> Iterator[None]:
    """Whoever is not let in, or not answered, is told what of his certificate may be the reason: a server says little of it."""
    try:
        yield
    except (Denied, Unreachable) as error:
        if server.credentials is not None:
            check_lasts(server.credentials.certificate, datetime.now(UTC))
        elif isinstance(error, Denied):
            raise Denied(f"{error}; if it wants a certificate, --credentials FILE names the bundle that has yours") from error
        raise
