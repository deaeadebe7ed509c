"""Connecting to a server, and the one door through which the client library's exceptions become ours."""

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from fedplane.runtime.errors import BadInput, BusError, BusFull, Denied, Unreachable
from fedplane.runtime.metrics import DENIALS
from fedplane.runtime.telemetry import tell

__all__ = [
    "BULK_PENDING_BYTES", "CONTROL_PENDING_BYTES", "Credentials", "NO_ROOM", "Patience", "close", "connect", "door", "greeting",
    "without_secrets",
]  # fmt: skip

CONTROL_PENDING_BYTES = 2 * 1024 * 1024
"""What the client may buffer before it flushes; the library's default."""

BULK_PENDING_BYTES = 128 * 1024
"""For chunks, less is faster: with 2 MiB the client joins whole chunks and the socket copies them again, five times the CPU (measured)."""

RECONNECT_SECONDS = 0.2
"""A supervised server is back in tens of milliseconds after it was killed; asking five times a second finds it soon and costs nothing."""

CLOSE_SECONDS = 1.0
"""How long a connection may take to send what is left. A server that is gone takes nothing, and nobody waits for it."""

FORBIDDEN = ("permissions violation", "authorization violation")
"""What the server says of a subject that we may not use, and of a name that it does not let in. It says so beside what was asked."""

DENIED_BY = {"fedplane.server": "nats"}

NO_ROOM = frozenset({10023, 10028, 10047, 10077})
"""JetStream's codes for: insufficient resources, account resources exceeded, storage resources exceeded, the store refused the message."""


REFUSAL = "authorization violation"
"""What a server says to credentials that it does not know. The library takes it for a reason to try again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server that does not answer, in seconds: to connect at first, and between two signs of life.

    Two signs of life may be missing. A peer that vanished without closing the connection is found out only by them.
    """

    connect_seconds: float = 30.0
    silence_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are, to a server that asks for certificates: files in PEM, and the authority by which we know the server.

    `inbox` is the only subject below which such a server lets us hear answers. The files are read when the connection is first made.
    """

    certificate: Path
    key: Path
    authority: Path
    inbox: str


class _Client(Client):
    """The library's client, for a bus on which anybody may publish anything.

    Its reading ends for good, and without a word, at a header or subject that it cannot parse: one such message would deafen every service.
    """

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            parsed: dict[str, str] | None = await super()._process_headers(headers)
        except (IndexError, ValueError):
            return None
        return parsed

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None) -> Msg:
        readable = subject.decode(errors="replace").encode()
        message: Msg = super()._build_message(sid, readable, reply, data, headers)
        return message


async def connect(
    url: str, name: str, pending_bytes: int, patience: Patience, complained: Callable[[str], None] = lambda complaint: None,
    *, credentials: Credentials | None = None,
) -> Client:  # fmt: skip
    """A connection that heals itself: once made, it is made again however often and long the server is away.

    A `tls://` URL means TLS from the first byte, of a server whose certificate this machine trusts; SSL_CERT_FILE may name an authority.
    What does not heal is a connection that the server ended with an error of its own; `is_closed` then stays true.
    `complained` is told what else the server finds wrong with us, as a subject that we may not use.
    Raises Unreachable when it cannot be made at first, Denied when the server refuses us.
    """
    logger = structlog.get_logger(connection=name)

    async def failed(error: Exception) -> None:
        logger.debug("connection trouble", error=repr(error))
        if any(said in str(error).lower() for said in FORBIDDEN):
            tell(DENIALS, 1, DENIED_BY)
        complained(str(error))

    async def disconnected() -> None:
        logger.info("disconnected from the bus")

    async def reconnected() -> None:
        logger.info("connected to the bus again")

    known = _known(credentials) if credentials else {}
    connection = _Client()
    with door(f"connect to {without_secrets(url)}"):
        try:
            async with asyncio.timeout(patience.connect_seconds):
                await connection.connect(
                    url.split(","),
                    name=name,
                    pending_size=pending_bytes,
                    error_cb=failed,
                    disconnected_cb=disconnected,
                    reconnected_cb=reconnected,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]  # annotated int, only ever slept
                    connect_timeout=2,
                    # Routers tell services apart by the name in the greeting, so who speaks TLS greets before the server has said a word.
                    tls_handshake_first=url.startswith("tls://"),
                    ping_interval=patience.silence_seconds,  # type: ignore[arg-type]  # annotated int, only ever slept
                    **known,
                )
        except TimeoutError as error:
            await close(connection)
            if REFUSAL in str(connection.last_error).casefold():
                raise Denied(f"the server at {without_secrets(url)} does not know these credentials, or wants some") from error
            raise Unreachable(f"no NATS server answered at {without_secrets(url)} within {patience.connect_seconds:g} s") from error
    return connection


def _known(credentials: Credentials) -> dict[str, Any]:
    """What the library is told of us. Raises BadInput when a file cannot be read as what it is to be."""
    try:
        context = ssl.create_default_context(cafile=credentials.authority)
        context.load_cert_chain(credentials.certificate, credentials.key)
    except OSError as error:  # SSLError is one
        files = f"{credentials.certificate}, {credentials.key} and {credentials.authority}"
        raise BadInput(f"{files} are no certificate, its key and an authority: {error}") from error
    return {"tls": context, "inbox_prefix": credentials.inbox}


def without_secrets(url: str) -> str:
    """The addresses without the user and password that may stand in them: what is said may be read by others."""
    return ",".join(re.sub(r"^(\w+://)?.*@", r"\1", each) for each in url.split(","))


def greeting(connection: Client) -> Mapping[str, Any]:
    """What the server said of itself when the connection was made."""
    return dict(connection._server_info)


async def close(connection: Client) -> None:
    """End a connection, whatever has become of its server."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
    except (TimeoutError, RuntimeError, OSError, nats.errors.Error) as error:  # RuntimeError: the transport is closed already
        structlog.get_logger().debug("the connection had ended before we did", why=repr(error))


@contextmanager
def door(what: str) -> Iterator[None]:
    """Run a block that uses the client library; whatever it raises leaves as one of our errors, with what was attempted in its message.

    A cancellation that the library forgot, or took for an error of the connection, is heeded here: whoever is told to end must end.
    """
    try:
        yield
    except (nats.errors.Error, nats.js.errors.Error, OSError) as error:
        _heed_cancellation()
        raise _ours(what, error) from error
    _heed_cancellation()


def _heed_cancellation() -> None:
    """Until Python 3.12, `asyncio.wait_for` forgets a cancellation that arrives together with its result, and the library uses it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _ours(what: str, error: Exception) -> BusError:
    if isinstance(error, nats.js.errors.APIError):
        said = f"could not {what}: {error.description or error} (JetStream error {error.err_code})"
        if error.err_code in NO_ROOM:
            return BusFull(f"{said}; free disk space or raise the server's max_file_store")
        return Unreachable(said) if error.code == 503 else BusError(said)
    if isinstance(error, nats.errors.AuthorizationError | nats.errors.InvalidUserCredentialsError):
        tell(DENIALS, 1, DENIED_BY)
        return Denied(f"could not {what}: the server does not allow it ({error})")
    return Unreachable(f"could not {what}: {error or type(error).__name__}")
