"""The user's app as something that is asked one thing at a time and whose every misbehaviour is an ordinary result.

An app may crash, hang, run out of memory, print without end or answer nonsense, and none of that may touch the collaborator.
So it runs in a process and an environment of its own, and answers by files and short lines; the protocol is told in `frameworks`.

The process is started by the first question and kept for the next ones, since importing a framework takes seconds.
It is killed when it misses a deadline, falls silent, breaks the protocol, or when the question is cancelled.
The next question then gets a fresh one.
There are two ways to have such a process: as a child (`children`), and in a container beside this one (`beside`). Both are a `Runner`.
Whether an update is any good for the federation is not this module's business.
"""

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from fedplane.runtime.errors import AppFailed
from fedplane.schemas.models import Configuration, Metrics, Weight

__all__ = ["Answer", "AppProcess", "Attend", "Limits", "Runner", "StartRunner"]

DETAIL_CHARACTERS_MAX = 2_000
"""How many of the app's last words a failure carries: the end of a traceback, and far less than a fact may have."""

LOG_BYTES_MAX = 10_000_000
"""How long the app's log may become before it begins anew: days of progress bars, and nothing to a disk."""

METRICS_BYTES_MAX = 500_000
"""How much of metrics.json is read; with more, the fact that carries it could not travel."""

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[^\n\t\x20-\x7e\u00a0-\U0010ffff]")
"""What moves a terminal's cursor or colours it (ECMA-48), and other characters that nobody can read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an app may take."""

    silence_seconds: float = 60
    """How long there may be no sign of life. One comes every second, unless the app's code holds the interpreter's lock."""

    closing_seconds: float = 5
    """How long an idle process may take to exit in order, before it is killed."""


class Answer(BaseModel):
    """What the app answered, besides the update that is in the request's directory."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: Weight
    metrics: Metrics
    configuration: Configuration = {}


class Runner(Protocol):
    """A started process that runs the app, however it was started."""

    async def hear(self) -> bytes:
        """The next line that it says; empty when it has ended. Raises ValueError for one that is too long."""
        ...

    def send(self, request: Mapping[str, str | int]) -> None:
        """Say something to it, without waiting. Raises BrokenPipeError if it cannot hear, or loses what is said."""
        ...

    async def ended(self) -> str:
        """How it ended, in words for a person, as soon as it has."""
        ...

    async def kill(self) -> None:
        """The process and its descendants are gone when this returns."""
        ...


ENDINGS = ("done", "failed")
"""What a request may come to."""

TURNS = (*ENDINGS, "asks")
"""What a server that runs may say: that it has come to an end, or asks something."""

Attend = Callable[[int], Coroutine[None, None, None]]
"""Answers what an app's server has asked under that number, in the directory."""

StartRunner = Callable[[Path], Awaitable[Runner]]
"""Starts a process that appends what the app prints to the log at that path. Raises AppFailed; waits as long as it takes."""


class AppProcess:
    """One app, and the process that runs it whenever there is one."""

    def __init__(self, start: StartRunner, log: Path, *, limits: Limits = Limits()) -> None:
        self._start = start
        self._log = log.absolute()  # whoever writes to it may have another working directory
        self._limits = limits
        self._runner: Runner | None = None
        self._log_begin = 0
        self._busy = False

    async def ask(self, directory: Path, deadline_seconds: float) -> Answer:
        """Have the app do what the request directory says, and read its answer.

        Raises AppFailed if there is none. One question at a time; to cancel it kills the process.
        """
        assert not self._busy, "an app is asked one thing at a time"
        self._busy, replied = True, False
        try:
            async with asyncio.timeout(deadline_seconds):
                reply = await self._exchange(_request(directory))
                replied = True
        except TimeoutError:
            if self._runner is None:
                message = (
                    f"no app could be started within {deadline_seconds:.3g} s; look at the state and the log of its container, "
                    "or wait for its environment to be made"
                )
                raise self._failed("app-never-started", message) from None
            message = f"the app did not answer within {deadline_seconds:.3g} s and was stopped; give its rounds more time, or less work"
            raise self._failed("timed-out", message) from None
        finally:
            self._busy = False
            if not replied:
                await self._kill()
        if reply["said"] == "failed":
            raise self._failed(str(reply.get("reason")), str(reply.get("message")))
        return self._answer(directory / "metrics.json")

    async def drive(self, directory: Path, attend: Attend) -> Answer:
        """Run the app's own server, as the directory says, and have attended to what it asks; what it leaves.

        Raises AppFailed if it leaves nothing. It lasts as long as the server does. To cancel it kills the process.
        """
        assert not self._busy, "a server is run once at a time"
        self._busy = True
        try:
            reply = await self._exchange(_request(directory), TURNS)
            while reply["said"] == "asks":
                reply = await self._attended(attend, reply.get("number"))
            if reply["said"] == "failed":
                raise self._failed(str(reply.get("reason")), str(reply.get("message")))
            return self._answer(directory / "metrics.json")
        finally:
            self._busy = False
            await self._kill()

    async def _attended(self, attend: Attend, number: object) -> dict[str, Any]:
        """What the server says after this. It is heard meanwhile, too: it may die, or raise in another thread than the one that asks."""
        if not isinstance(number, int) or self._runner is None:
            raise self._failed("garbage", f"the app's process asked with the number {number!r}")
        hearing = asyncio.create_task(self._reply(self._runner, TURNS))
        attending = asyncio.create_task(attend(number))
        try:
            await asyncio.wait({hearing, attending}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                attending.result()
                self._runner.send({"do": "answered", "number": number})
            return await hearing
        finally:
            hearing.cancel()
            attending.cancel()

    async def close(self) -> None:
        """End the process and its descendants; in order, if it is idle."""
        if self._runner is not None and not self._busy:
            with suppress(BrokenPipeError, TimeoutError):  # it is dead already, or too slow to be waited for
                self._runner.send({"do": "stop"})
                async with asyncio.timeout(self._limits.closing_seconds):
                    await self._runner.ended()
        await self._kill()

    async def _exchange(self, request: dict[str, str], endings: tuple[str, ...] = ENDINGS) -> dict[str, Any]:
        """The reply to the request, from a process that is started if need be."""
        self._log.touch()
        self._bound_log()
        self._log_begin = self._log.stat().st_size
        warm = self._runner is not None
        if self._runner is None:
            self._runner = await self._start(self._log)
            loaded = await self._reply(self._runner, ("ready", "failed"))
            if loaded["said"] == "failed":
                await self._kill()
                return loaded
        with suppress(BrokenPipeError):  # it has died just now, and waiting for its reply will tell
            self._runner.send(request)
        try:
            taken = await self._reply(self._runner, ("taken", *endings))
        except AppFailed as failure:
            if not warm or failure.reason != "crashed":
                raise
            await self._kill()  # it died while it had nothing to do: that is no answer to a question that it never took
            return await self._exchange(request, endings)
        return taken if taken["said"] != "taken" else await self._reply(self._runner, endings)

    async def _reply(self, runner: Runner, expected: tuple[str, ...]) -> dict[str, Any]:
        """The next reply that is one of those; signs of life are passed over."""
        while True:
            try:
                async with asyncio.timeout(self._limits.silence_seconds):
                    line = await runner.hear()
            except TimeoutError:
                said = f"the app's process gave no sign of life for {self._limits.silence_seconds:g} s and was stopped"
                raise self._failed("hung", f"{said}; does its code block the interpreter?") from None
            except ValueError:
                line = b"... (too long a line)"
            if not line:
                raise self._failed("crashed", await runner.ended())
            reply = _parsed(line)
            if reply.get("said") in expected:
                return reply
            if reply.get("said") != "alive":
                raise self._failed("garbage", f"the app wrote to a pipe that is not its own: {line[:80]!r}")
            self._bound_log()

    def _answer(self, file: Path) -> Answer:
        try:
            with file.open("rb") as stream:
                return Answer.model_validate_json(stream.read(METRICS_BYTES_MAX))
        except (OSError, ValidationError) as error:
            raise self._failed("garbage", f"the app's process left no {file.name} that can be used: {error}") from error

    async def _kill(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.kill()

    def _failed(self, reason: str, message: str) -> AppFailed:
        return AppFailed(reason, message, self._last_words())

    def _bound_log(self) -> None:
        if self._log.stat().st_size > LOG_BYTES_MAX:
            os.truncate(self._log, 0)  # the process appends, so it goes on from there

    def _last_words(self) -> str:
        """The end of what the app printed since it was asked, from the beginning of a line, without control characters."""
        size = self._log.stat().st_size
        begin = self._log_begin if self._log_begin <= size else 0
        with self._log.open("rb") as log:
            log.seek(max(begin, size - DETAIL_CHARACTERS_MAX))
            text = log.read(DETAIL_CHARACTERS_MAX).decode(errors="replace")
        if size - begin > DETAIL_CHARACTERS_MAX and "\n" in text:
            text = text.partition("\n")[2]
        return _CONTROL.sub("", text).strip()


def _request(directory: Path) -> dict[str, str]:
    return {"do": "work", "directory": str(directory.absolute())}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):  # the latter by brackets nested too deep
        return {}
    return reply if isinstance(reply, dict) else {}
