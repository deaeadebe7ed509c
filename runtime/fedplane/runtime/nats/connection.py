"""Connecting to a server, and the one door through which the client library's exceptions become ours."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from fedplane.runtime.errors import BusError, BusFull, Denied, Unreachable

__all__ = ["BULK_PENDING_BYTES", "CONTROL_PENDING_BYTES", "NO_ROOM", "Patience", "connect", "door"]

CONTROL_PENDING_BYTES = 2 * 1024 * 1024
"""What the client may buffer before it flushes; the library's default."""

BULK_PENDING_BYTES = 128 * 1024
"""For chunks, less is faster: with 2 MiB the client joins whole chunks and the socket copies them again, five times the CPU (measured)."""

RECONNECT_SECONDS = 0.2
"""A supervised server is back in tens of milliseconds after it was killed; asking five times a second finds it soon and costs nothing."""

NO_ROOM = frozenset({10023, 10028, 10047, 10077})
"""JetStream's codes for: insufficient resources, account resources exceeded, storage resources exceeded, the store refused the message."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server that does not answer, in seconds: to connect at first, and for one request."""

    connect_seconds: float = 30.0
    request_seconds: float = 5.0


async def connect(url: str, name: str, pending_bytes: int, patience: Patience) -> Client:
    """A connection that heals itself: once made, it is made again however often and long the server is away.

    Raises Unreachable when it cannot be made at first, Denied when the server refuses us.
    """
    logger = structlog.get_logger(connection=name)

    async def failed(error: Exception) -> None:
        logger.debug("connection trouble", error=repr(error))

    async def disconnected() -> None:
        logger.info("disconnected from the bus")

    async def reconnected() -> None:
        logger.info("connected to the bus again")

    connection = Client()
    with door(f"connect to {url}"):
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
                )
        except TimeoutError as error:
            await connection.close()
            raise Unreachable(f"no NATS server answered at {url} within {patience.connect_seconds:g} s") from error
    return connection


@contextmanager
def door(what: str) -> Iterator[None]:
    """Run a block that uses the client library; whatever it raises leaves as one of our errors, with what was attempted in its message."""
    try:
        yield
    except nats.js.errors.APIError as error:
        said = f"could not {what}: {error.description or error} (JetStream error {error.err_code})"
        if error.err_code in NO_ROOM:
            raise BusFull(f"{said}; free disk space or raise the server's max_file_store") from error
        if error.code == 503:
            raise Unreachable(said) from error
        raise BusError(said) from error
    except (nats.errors.AuthorizationError, nats.errors.InvalidUserCredentialsError) as error:
        raise Denied(f"could not {what}: the server does not allow it ({error})") from error
    except (nats.errors.Error, nats.js.errors.Error, OSError) as error:
        raise Unreachable(f"could not {what}: {error or type(error).__name__}") from error
