"""Running a service: logs, traces, the bus, signals, and a clean end. Every `main` is a call of `serve`.

A service ends cleanly on SIGTERM and SIGINT.
Anything else that ends it is a failure for its supervisor to see: exit code 1, or 3 when the bus cannot be reached.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvloop

from fedplane.runtime.errors import FedplaneError, Unavailable, Unreachable
from fedplane.runtime.exporting import exporting
from fedplane.runtime.health import Health, answering
from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.runtime.settings import ServiceSettings

__all__ = ["EXIT_FAILED", "EXIT_UNREACHABLE", "configure_logs", "serve"]

END_SECONDS = 2.0
END_ATTEMPTS_MAX = 4
"""A service that does not end gets two seconds, four times: less than any supervisor waits before it kills."""

EXIT_FAILED = 1
EXIT_UNREACHABLE = 3


def serve(name: str, settings: ServiceSettings, body: Callable[[NatsBus], Awaitable[None]], *, declares: bool = True) -> None:
    """Run `body` on the bus until somebody ends the process. `declares` is whether this service makes missing streams."""
    configure_logs(settings.log_level)
    structlog.contextvars.bind_contextvars(service=name, replica=settings.replica)
    logger = structlog.get_logger()
    try:
        with (
            exporting(name, settings.replica, settings),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_until_ended(name, settings, body, declares))
    except FedplaneError as error:
        logger.error("stopped", why=str(error))
        sys.exit(EXIT_UNREACHABLE if isinstance(error, Unreachable) else EXIT_FAILED)


async def _until_ended(name: str, settings: ServiceSettings, body: Callable[[NatsBus], Awaitable[None]], declares: bool) -> None:
    source = f"/fedplane/{name}/{settings.replica}"
    limits = _limits(settings) if declares else None
    health = Health()
    async with (
        answering(settings.health_port, health),
        open_bus(settings.nats_url, name=f"{name} {settings.replica}", source=source, limits=limits) as bus,
    ):
        health.is_ready = bus.is_connected
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
