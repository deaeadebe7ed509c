"""The apps that are kept warm: at most so many processes, one per run, each serving one invitation at a time.

Loading an app takes seconds and a round may take less, so a process is kept from one round of its run to the next.
When another run needs a process and there are as many as may be, the one that was idle longest makes room.
Its run pays for a start at its next invitation, whereas waiting for it could take until its run ends.
How a process is started and spoken to is behind `WarmApp`; which run ends when is the caller's to say.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from fedplane.collaborator.apps import Answer

__all__ = ["AppPool", "StartApp", "WarmApp"]


class WarmApp(Protocol):
    """A process that runs the user's code."""

    async def ask(self, directory: Path, deadline_seconds: float) -> Answer:
        """Have the app answer the invitation in the directory.

        Raises AppFailed when it crashes, hangs, or is not done in time. After that, or when it is cancelled, it can be asked again.
        """
        ...

    async def close(self) -> None:
        """End the process, whatever it is doing."""
        ...


StartApp = Callable[[str, Path, Path], WarmApp]
"""Makes the app of a run from the framework's name, the app's directory and a directory that is the app's own while the run lasts."""


class AppPool:
    """Apps by run."""

    def __init__(self, start: StartApp, apps_max: int) -> None:
        self._start = start
        self._apps_max = apps_max
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._places = asyncio.Semaphore(apps_max)
        self._lent: set[str] = set()
        self._idle: dict[str, WarmApp] = {}  # the one that was idle longest first

    @asynccontextmanager
    async def lend(self, run: str, framework: str, app: Path, workdir: Path) -> AsyncIterator[WarmApp]:
        """The run's app, as soon as it is free and there is a place for it."""
        async with self._turns[run], self._places:
            self._lent.add(run)
            held = self._idle.pop(run, None)
            try:
                if held is None:
                    await self._make_room()
                    held = self._start(framework, app, workdir)
                yield held
            finally:
                self._lent.discard(run)
                if held is not None:
                    self._idle[run] = held

    async def _make_room(self) -> None:
        while len(self._lent) + len(self._idle) > self._apps_max:
            await self._idle.pop(next(iter(self._idle))).close()

    async def retire(self, run: str) -> None:
        """End the run's app once whoever has it gives it back."""
        async with self._turns[run]:
            if held := self._idle.pop(run, None):
                await held.close()
        self._turns.pop(run, None)

    async def close(self) -> None:
        """End all apps."""
        for run in list(self._turns):
            await self.retire(run)
