"""Running a service: logs, traces, the bus, signals, and a clean end. Every `main` is a call of `serve`.

A service ends cleanly on SIGTERM and SIGINT.
Anything else that ends it is a failure for its supervisor to see: exit code 1, 2 when what it was given cannot be used,
or 3 when the bus cannot be reached. One that was given no certificate does not start, unless it was told to do without.
"""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import structlog
import uvloop

from fedplane.runtime.errors import BadInput, FedplaneError, Unavailable, Unreachable
from fedplane.runtime.exporting import exporting
from fedplane.runtime.health import Health, answering
from fedplane.runtime.nats import Credentials, Limits, NatsBus, open_bus
from fedplane.runtime.settings import EXIT_BAD_INPUT, ServiceSettings
from fedplane.schemas.roles import Role, inbox_of

__all__ = ["EXIT_FAILED", "EXIT_UNREACHABLE", "Opened", "configure_logs", "credentials_of", "serve", "serve_on"]

END_SECONDS = 2.0
END_ATTEMPTS_MAX = 4
"""A service that does not end gets two seconds, four times: less than any supervisor waits before it kills."""

EXIT_FAILED = 1
EXIT_UNREACHABLE = 3
_EXITS: Mapping[type[FedplaneError], int] = {Unreachable: EXIT_UNREACHABLE, BadInput: EXIT_BAD_INPUT}
"""What a process says of why it ended; of anything else, `EXIT_FAILED`."""


class Opened(Protocol):
    """What a service works on: the bus, or what there is of it."""

    def is_connected(self) -> bool:
        """Whether the process is ready: the health port says so to whoever asks."""
        ...


B = TypeVar("B", bound=Opened)
Open = Callable[[Credentials | None], AbstractAsyncContextManager[B]]


def serve(
    name: str, settings: ServiceSettings, body: Callable[[NatsBus], Awaitable[None]],
    *, declares: bool = True, role: Role | None = None, known_as: str = "", listening: str = "",
) -> None:  # fmt: skip
    """Run `body` on the bus until somebody ends the process. `declares` is whether this service makes missing streams.

    `role` is that of its certificate, if it is not the one of its name; for the rest see `credentials_of`.
    """

    def opened(credentials: Credentials | None) -> AbstractAsyncContextManager[NatsBus]:
        source, limits = f"/fedplane/{name}/{settings.replica}", _limits(settings) if declares else None
        return open_bus(settings.nats_url, name=f"{name} {settings.replica}", source=source, limits=limits, credentials=credentials)

    serve_on(opened, name, settings, body, role=role, known_as=known_as, listening=listening)


def serve_on(
    open_: Open[B], name: str, settings: ServiceSettings, body: Callable[[B], Awaitable[None]],
    *, role: Role | None = None, known_as: str = "", listening: str = "",
) -> None:  # fmt: skip
    """The same for a process that works on something else than all the ports together: on what `open_` opens."""
    gc.freeze()  # what is loaded stays: looking through it for garbage is all that a process would do for the last tenth of a second
    configure_logs(settings.log_level)
    structlog.contextvars.bind_contextvars(service=name, replica=settings.replica)
    logger = structlog.get_logger()
    try:
        credentials = credentials_of(settings, role or Role(name), known_as, listening)
        if credentials is None:
            logger.warning("without a certificate, on a bus that lets everybody do everything, since FEDPLANE_INSECURE is set")
        with (
            exporting(name, settings.replica, settings),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_until_ended(open_(credentials), settings, body))
    except FedplaneError as error:
        logger.error("stopped", why=str(error))
        sys.exit(next((code for kind, code in _EXITS.items() if isinstance(error, kind)), EXIT_FAILED))


def credentials_of(settings: ServiceSettings, role: Role, known_as: str = "", listening: str = "") -> Credentials | None:
    """How a process shows a server who it is; None if it was told to go without.

    `known_as` is its name, if that is not for FEDPLANE_TLS_NAME to say. `listening` is where it asks for a reader if it may make none.
    Raises BadInput when there is no certificate, and nobody has said that none is wanted.
    """
    if settings.tls_certificate is None:
        if settings.insecure:
            return None
        raise BadInput(
            "the bus wants to know who this is: set FEDPLANE_TLS_CERTIFICATE to the file with its certificate, "
            "or FEDPLANE_INSECURE=true for a bus that lets everybody do everything"
        )
    one = settings.tls_certificate
    inbox = inbox_of(role, known_as or settings.tls_name or role)
    return Credentials(one, settings.tls_key or one, settings.tls_authority or one, inbox, listening)


async def _until_ended(opening: AbstractAsyncContextManager[B], settings: ServiceSettings, body: Callable[[B], Awaitable[None]]) -> None:
    health = Health()
    async with answering(settings.health_port, health, settings.health_host), opening as bus:
        health.is_ready, health.has_started = bus.is_connected, True
        structlog.get_logger().info("ready")
        running = asyncio.ensure_future(body(bus))
        told = asyncio.Event()
        for ending in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(ending, told.set)
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if told.is_set():
            await _end(running)
            structlog.get_logger().info("ended")
        else:
            waiting.cancel()
            _raise_failure(running)


def _limits(settings: ServiceSettings) -> Limits:
    return Limits(
        log_bytes=settings.log_bytes,
        bulk_bytes=settings.bulk_bytes,
        lease_seconds=settings.work_lease_seconds,
        replicas=settings.stream_replicas,
    )


async def _end(running: asyncio.Future[None]) -> None:
    """Cancel the service, and again whatever of it did not hear.

    Until Python 3.12, `asyncio.wait_for` forgets a cancellation that arrives together with its result, and the client library uses it.
    """
    running.cancel()
    for _ in range(END_ATTEMPTS_MAX):
        done, _ = await asyncio.wait({running}, timeout=END_SECONDS)
        if done:
            break
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    else:
        raise Unavailable(f"not ended after {END_ATTEMPTS_MAX * END_SECONDS:g} s")
    if not running.cancelled():
        _raise_failure(running)  # it failed while it ended: for the supervisor to see


def _raise_failure(running: asyncio.Future[None]) -> None:
    """Raise what the service died of. Of several tasks' operating failures, the first one stands for all."""
    try:
        running.result()
    except BaseExceptionGroup as group:
        ours, others = group.split(FedplaneError)
        if ours is None or others is not None:
            raise
        first: BaseException = ours
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group


def configure_logs(level: str) -> None:
    """One line per event on standard error, key=value, times in UTC."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
