"""Connecting to a server, and the one door through which the client library's exceptions become ours."""

import asyncio
import re
import ssl
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from fedplane.runtime.errors import BadInput, BusError, BusFull, Denied, Unreachable
from fedplane.runtime.metrics import DENIALS
from fedplane.runtime.nats.credentials import Credentials, Reread
from fedplane.runtime.telemetry import tell

__all__ = [
    "BULK_PENDING_BYTES", "CONTROL_PENDING_BYTES", "NO_ROOM", "Patience", "close", "connect", "door", "greeting",
    "heed_cancellation", "while_connected", "without_secrets",
]  # fmt: skip

T = TypeVar("T")

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

REFUSED_SECONDS = 1.0
"""How long to wait after a refusal. Who was thrown out asks for as long as it lives, and each time somebody has to look who it is."""

EXPIRED = ("authentication expired", "authentication revoked")
"""What a server says when the rights of a connection have had their time. It ends the connection, and the next one has new rights."""

TOLD_AGAIN_SECONDS = 0.2
"""How long an attempt to connect may take to end when it is told to."""

LOST_SECONDS = 0.25
"""How often to look whether a connection was made anew."""

SECURE = "tls://"
"""What the address of a server begins with to which we show a certificate. To any other one the library would speak without."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server that does not answer, in seconds: to connect at first, between two signs of life, and to try again.

    Two signs of life may be missing. A peer that vanished without closing the connection is found out only by them.
    """

    connect_seconds: float = 30.0
    silence_seconds: float = 10.0
    again_seconds: float = RECONNECT_SECONDS


class _Client(Client):
    """The library's client, for a bus on which anybody may publish anything, and whose connections may end at any time.

    The library's reading ends for good, and without a word, at a header or subject that it cannot parse: one such message would deafen
    every service. It closes a connection for good whose rights have expired, and keeps the certificate that it began with.
    A server that has to ask somebody whether to let us in pings us after two seconds, which the library takes for its consent.
    """

    certificates: Reread | None = None

    async def _connect_to_server(self, s: Any) -> None:
        if REFUSAL in str(self.last_error).casefold():
            await asyncio.sleep(REFUSED_SECONDS)
        if self.certificates is not None:
            self.options["tls"] = self.certificates.context()
        await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        if not self.is_connected:  # see above: it has not said yes, and at a no the library would close the connection for good
            for begun in (self._reading_task, self._ping_interval_task, self._flusher_task):
                if begun is not None:
                    begun.cancel()
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
            raise nats.errors.TimeoutError
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None and writer.get_extra_info("ssl_object") is not None:
            writer.transport.get_protocol()._over_ssl = True  # as asyncio's own start_tls does; else it warns when the connection ends

    async def _process_err(self, err_msg: str) -> None:
        if any(said in err_msg.lower() for said in EXPIRED):
            structlog.get_logger(connection=self.options["name"]).info("the server ended the connection, to be made anew", why=err_msg)
            await self._process_op_err(nats.errors.Error(err_msg))
        else:
            await super()._process_err(err_msg)

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


class _Told:
    """Tells operators what happens to a connection. That it is not made, and why, is told once until it is."""

    def __init__(self, name: str, complained: Callable[[str], None]) -> None:
        self._complained = complained
        self._refusals: set[str] = set()
        self._logger = structlog.get_logger(connection=name)

    async def failed(self, error: Exception) -> None:
        self._logger.debug("connection trouble", error=repr(error))
        why = _refusal(error)
        if why and why not in self._refusals:
            self._logger.warning("not let in by the bus", why=f"the server {why}")
            self._refusals.add(why)
        if any(said in str(error).lower() for said in FORBIDDEN):
            tell(DENIALS, 1, DENIED_BY)
        self._complained(str(error))

    async def disconnected(self) -> None:
        self._logger.info("disconnected from the bus")

    async def reconnected(self) -> None:
        self._refusals.clear()
        self._logger.info("connected to the bus again")


def _refusal(error: Exception | None) -> str:
    """What the server has against us, or we against it, on whichever side TLS found it; "" if nothing was said of that kind."""
    if REFUSAL in str(error).casefold():
        return "does not know these credentials, or wants some"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return f"does not take our certificate, or we not its: {error}"
    return ""


async def connect(
    url: str, name: str, pending_bytes: int, patience: Patience, complained: Callable[[str], None] = lambda complaint: None,
    *, credentials: Credentials | None = None,
) -> Client:  # fmt: skip
    """A connection that heals itself: once made, it is made again however often and long the server is away.

    A `tls://` URL means TLS from the first byte, of a server whose certificate this machine trusts; SSL_CERT_FILE may name an authority.
    With credentials it is their authority that counts, and they are read anew whenever the connection is made anew.
    What does not heal is a connection that the server ended with an error of its own; `is_closed` then stays true.
    `complained` is told what else the server finds wrong with us, as a subject that we may not use.
    Raises Unreachable when it cannot be made at first, Denied when the server refuses us, BadInput for credentials that cannot be used.
    """
    servers = url.split(",")
    if credentials and not all(server.startswith(SECURE) for server in servers):
        raise BadInput(f"certificates are shown to servers whose addresses begin with {SECURE}, and this is {without_secrets(url)}")
    told, connection = _Told(name, complained), _Client()
    known: dict[str, Any] = {}
    if credentials:
        connection.certificates = Reread(credentials)
        known = {"inbox_prefix": credentials.inbox, "user": credentials.user, "password": credentials.password}
    with door(f"connect to {without_secrets(url)}"):
        try:
            connecting = connection.connect(
                servers,
                name=name,
                pending_size=pending_bytes,
                error_cb=told.failed,
                disconnected_cb=told.disconnected,
                reconnected_cb=told.reconnected,
                max_reconnect_attempts=-1,
                reconnect_time_wait=patience.again_seconds,  # type: ignore[arg-type]  # annotated int, only ever slept
                connect_timeout=2,
                # Routers tell services apart by the name in the greeting, so who speaks TLS greets before the server has said a word.
                tls_handshake_first=url.startswith(SECURE),
                ping_interval=patience.silence_seconds,  # type: ignore[arg-type]  # annotated int, only ever slept
                **known,
            )
            await _within(patience.connect_seconds, connecting)
        except TimeoutError as error:
            await close(connection)
            if why := _refusal(connection.last_error):
                raise Denied(f"the server at {without_secrets(url)} {why}") from error
            raise Unreachable(f"no NATS server answered at {without_secrets(url)} within {patience.connect_seconds:g} s") from error
    return connection


async def _within(seconds: float, attempt: Coroutine[None, None, None]) -> None:
    """Do it in so much time, or raise TimeoutError.

    Until Python 3.12, `asyncio.wait_for` forgets a cancellation that arrives together with its result, and the library uses it:
    it would try to connect for ever. So it is told again until it has heard.
    """
    task = asyncio.create_task(attempt)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise TimeoutError
        task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=TOLD_AGAIN_SECONDS)
        _ = task.cancelled() or task.exception()  # whatever it still fails of, nobody waits for it


def without_secrets(url: str) -> str:
    """The addresses without the user and password that may stand in them: what is said may be read by others."""
    return ",".join(re.sub(r"^(\w+://)?.*@", r"\1", each) for each in url.split(","))


def greeting(connection: Client) -> Mapping[str, Any]:
    """What the server said of itself when the connection was made."""
    return dict(connection._server_info)


async def while_connected(connection: Client, request: Coroutine[None, None, T], made: int | None = None) -> T:
    """What the request comes to. Raises StaleConnectionError as soon as the connection was made anew: then no answer can come any more.

    `made` is how often it had been when what is waited for began, if that was not now.
    """
    made, task = connection.stats["reconnects"] if made is None else made, asyncio.create_task(request)
    try:
        while not (await asyncio.wait({task}, timeout=LOST_SECONDS))[0]:
            if connection.stats["reconnects"] != made:
                raise nats.errors.StaleConnectionError
        return task.result()
    finally:
        task.cancel()
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # whatever it still fails of, nobody waits for it


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
        heed_cancellation()
        raise _ours(what, error) from error
    heed_cancellation()


def heed_cancellation() -> None:
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
