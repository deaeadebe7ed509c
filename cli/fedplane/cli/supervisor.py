"""Keeps processes running: starts them stage by stage, starts again what dies, and ends them in the opposite order.

Why not a supervisor off the shelf: those that pip can install are daemons with a configuration of their own.
A program that wants a federation for the length of a test needs a context manager.

Rules that keep this file honest:
1. A process that runs has its pid in `pids`. It gets there in the very step in which it was started, so that no cancellation loses it.
2. Every process leads a group of its own. Ctrl-C reaches us alone, and what a process leaves behind when it dies is killed with its group.
3. `stop` cannot be talked out of its purpose: cancelled, it kills what still runs.
"""

import asyncio
import os
import signal
import subprocess
import time
from asyncio.subprocess import Process as Running
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from fedplane.cli.logs import Logs
from fedplane.cli.orphans import die_with_parent, kill_group
from fedplane.runtime.errors import Unavailable

__all__ = ["PATIENCE", "Patience", "Process", "Say", "Stages", "Supervisor"]

READY_SECONDS = 30.0
"""How long a process may take to accept connections. nats-server needs 20 ms, and seconds when it has a full store to check."""

ANSWER_SECONDS = 2.0
"""How long a process may take to say whether it has started. One that is there answers in milliseconds."""

STOP_SECONDS = 10.0
"""How long a stage may take to end after SIGTERM, before it is killed."""

KILL_SECONDS = 2.0
"""How long to wait for the kernel to report a killed process."""

LOGS_SECONDS = 10.0
"""How often the sizes of the logs are looked at."""

Say = Callable[[str, str], None]
"""Told the name of a process and what became of it, for people."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that is to run. Without a port it is ready at once.

    `port` is where it accepts connections once it is ready; `health_port` where it answers over HTTP whether it has started.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    health_port: int | None = None


Stages = Sequence[Sequence[Process]]
"""Processes by stage: a stage is started when the one before it is ready, and ended before it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how soon a process that dies is started again.

    The defaults bring back at once a process that was killed.
    They do not let one that cannot start keep a core busy, and give up on it after half a minute.
    """

    delay_seconds_min: float = 0.2
    delay_seconds_max: float = 5.0
    restarts_max: int = 10
    window_seconds: float = 60.0

    def delay_seconds(self, deaths: Iterable[float], now: float) -> float | None:
        """How long to wait after the last of these deaths; None if there were too many within the window."""
        recent = sum(1 for at in deaths if now - at < self.window_seconds)
        if recent > self.restarts_max:
            return None
        return float(min(self.delay_seconds_min * 2 ** max(recent - 1, 0), self.delay_seconds_max))


PATIENCE = Patience()
"""The defaults."""


class Supervisor:
    """Keeps the processes of some stages running. With `restart` off, one that dies stays dead."""

    def __init__(
        self,
        stages: Stages,
        logs: Logs,
        *,
        patience: Patience = PATIENCE,
        restart: bool = True,
        stop_seconds: float = STOP_SECONDS,
        say: Say = lambda name, said: None,
    ) -> None:
        self.stages = stages
        self.logs = logs
        self.patience = patience
        self.restart = restart
        self.stop_seconds = stop_seconds
        self.say = say
        self.pids: dict[str, int] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # passed on, not read; unbuffered, since a log is for looking at

    async def start(self) -> None:
        """Start every stage. Raises Unavailable when a process cannot be started or does not become ready; what runs is then for `stop`."""
        self._keepers["logs"] = asyncio.create_task(self._keep_logs_short())
        for stage in self.stages:
            for process in stage:
                running = await self._spawn(process)
                self._keepers[process.name] = asyncio.create_task(self._keep(process, running))
            for process in stage:
                if process.port is not None:
                    await self._wait_until_ready(process, partial(_accepts_connections, process.port))
                if process.health_port is not None:
                    await self._wait_until_ready(process, partial(_has_started, process.health_port))

    async def wait(self) -> None:
        """Wait until a process is given up, which raises Unavailable with its last words."""
        done, _ = await asyncio.wait(self._keepers.values(), return_when=asyncio.FIRST_EXCEPTION)
        for keeper in done:
            keeper.result()

    async def stop(self) -> None:
        """End every process, the last stage first. None is left afterwards, not even if this is cancelled."""
        self._stopping = True
        try:
            for stage in reversed(self.stages):
                await self._end([process.name for process in stage], self.stop_seconds)
        finally:
            await self._end([*{**self._keepers, **self.pids}], 0)
            for keeper in self._keepers.values():
                if keeper.done() and not keeper.cancelled():
                    keeper.exception()  # `wait` has raised the first; asyncio need not report the others

    async def _spawn(self, process: Process) -> Running:
        with self.logs.open(process.name) as log:
            try:
                running = await asyncio.create_subprocess_exec(
                    *process.command,
                    env={**self._environment, **process.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_parent(),
                )
            except OSError as error:
                raise Unavailable(f"cannot start {process.name}: {process.command[0]}: {error.strerror}") from error
        self.pids[process.name] = running.pid
        self.say(process.name, f"started, pid {running.pid}")
        return running

    async def _keep(self, process: Process, running: Running) -> None:
        deaths: deque[float] = deque(maxlen=self.patience.restarts_max + 1)
        while True:
            cause = _cause(await running.wait())
            kill_group(self.pids.pop(process.name))
            deaths.append(time.monotonic())
            if self._stopping:
                return self.say(process.name, "ended")
            if not self.restart:
                return self.say(process.name, f"died ({cause})")
            delay_seconds = self.patience.delay_seconds(deaths, deaths[-1])
            if delay_seconds is None:
                raise Unavailable(f"{process.name} died {len(deaths)} times, at last with {cause}; {self._last_words(process.name)}")
            self.say(process.name, f"died ({cause}); starting again in {delay_seconds:.1f} s")
            await asyncio.sleep(delay_seconds)
            running = await self._spawn(process)

    async def _wait_until_ready(self, process: Process, is_ready: Callable[[], Awaitable[bool]]) -> None:
        pid, deadline = self.pids.get(process.name), time.monotonic() + READY_SECONDS
        while not await is_ready():
            if self.pids.get(process.name) != pid or pid is None:
                raise Unavailable(f"{process.name} died before it was ready; {self._last_words(process.name)}")
            if time.monotonic() > deadline:
                raise Unavailable(f"{process.name} was not ready within {READY_SECONDS:g} s; {self._last_words(process.name)}")
            await asyncio.sleep(0.02)

    async def _end(self, names: Sequence[str], grace_seconds: float) -> None:
        keepers = [self._keepers[name] for name in names if name in self._keepers]
        for name in names:
            if name in self.pids:
                with suppress(ProcessLookupError):  # it died, and its keeper has not heard of it yet
                    os.kill(self.pids[name], signal.SIGTERM)
            elif name in self._keepers:
                self._keepers[name].cancel()  # about to start it again
        if keepers and grace_seconds:
            await asyncio.wait(keepers, timeout=grace_seconds)
        for name in names:
            if name in self.pids:
                kill_group(self.pids[name])
                if grace_seconds:
                    self.say(name, f"did not end within {grace_seconds:g} s and was killed")
        if keepers:
            await asyncio.wait(keepers, timeout=KILL_SECONDS)

    async def _keep_logs_short(self) -> None:
        while True:
            await asyncio.sleep(LOGS_SECONDS)
            try:
                self.logs.shorten()
            except OSError as error:
                self.say("logs", f"cannot be shortened: {error}")

    def _last_words(self, name: str) -> str:
        return f"its last words, from {self.logs.path(name)}:\n{self.logs.last_lines(name)}"


def _cause(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status}"


async def _accepts_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _has_started(port: int) -> bool:
    """See `runtime.health`."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /started HTTP/1.1\r\n\r\n")
            status = await reader.readline()
    except (OSError, TimeoutError):
        return False
    writer.close()
    return b" 200 " in status
