"""Environments for apps that bring none: each is made of what its app asks for, kept, and lent to every app that asks for the same.

Frameworks cannot live together (OpenFL and Flower want versions of grpcio that exclude each other), and none may live with us.
An app with a `.venv` of its own keeps it. For any other, `python -m venv` and pip make an environment here, once.
pip is given this process's environment, so PIP_NO_INDEX with a directory of wheels, a mirror or a proxy are set as for any pip.

The directory may be shared by the collaborators of a machine, and each of them may be killed at any moment.
So beside each environment is a file that is locked: by one while it is made or removed, by many while apps run in it.
An app's process inherits the lock, and the kernel drops it with the last process that has it; nobody has to say anything.
There are so many environments, of so many bytes, and not more: to make room, those that were unused longest are removed.
Making one may take longer than a round lasts. It goes on when nobody waits any more, and the next round finds it made.
What an environment consists of is the business of `recipes`.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from fedplane.collaborator.children import WITHHELD
from fedplane.collaborator.recipes import Python, Recipe, recipe_of
from fedplane.runtime.errors import AppFailed

__all__ = ["Bounds", "Environments"]

MADE = "fedplane.json"
"""The file that an environment has once it is finished: how large it is, of what it was made, and by its time when it was last lent."""

PROGRESS_SECONDS = 10.0
"""How often the log says that an environment is still being made: PyTorch takes minutes, and silence looks like a hang."""

RETRY_SECONDS = 0.2
"""Between two looks at a lock that another process has."""

LENDINGS_MAX = 3
"""How often an environment is looked for or made for one start of an app; more, and somebody removes it as often as it is made."""

LINE_CHARACTERS_MAX = 200
"""Of the installer's last line in our log: pip ends with one that lists everything."""

WORDS_BYTES_MAX = 4_000
"""How much of what pip said last a failure carries: the end says why."""

_IDENTIFY = "import sys, sysconfig; print('.'.join(map(str, sys.version_info[:3])), sys.implementation.name, sysconfig.get_platform())"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What environments may take: so many of them, so many bytes together, so long to make one."""

    number: int
    bytes: int
    seconds: float


class _NotMade(Exception):
    """Why an environment cannot be made."""


class Environments:
    """The environments below a directory, made with one Python. `given` is this process's own environment."""

    def __init__(self, root: Path, python: Path, given: Mapping[str, str], bounds: Bounds) -> None:
        self._root = root.absolute()
        self._python = python.absolute()
        kept = {name: value for name, value in given.items() if not name.startswith(WITHHELD)}
        self._given = kept | {"PYTHONUNBUFFERED": "1"}  # else pip keeps to itself how far it is
        self._bounds = bounds
        self._making: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def lent(
        self, directory: Path, framework: str, wanted: tuple[str, ...], instead: tuple[str, ...] = ()
    ) -> AsyncIterator[tuple[Path, int]]:
        """The Python of an environment for the app, and a descriptor: whoever inherits it keeps the environment from being removed.

        `wanted` and `instead` are as for `recipe_of`.
        Raises BadInput if what the app asks for cannot be read, and AppFailed if no environment can be made of it.
        """
        recipe = recipe_of(directory, framework, wanted, await self._identity(), instead)
        for _ in range(LENDINGS_MAX):
            lock = self._borrowed(recipe.name)
            if lock is not None:
                try:
                    yield self._root / recipe.name / "bin" / "python", lock
                finally:
                    os.close(lock)
                return
            await asyncio.shield(self._making.get(recipe.name) or self._begin(recipe))
        raise AppFailed("no-environment", "the app's environment is removed as soon as it is made; raise FEDPLANE_ENVIRONMENTS_MAX")

    async def close(self) -> None:
        """End what is being made."""
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _identity(self) -> Python:
        words = bytearray()
        try:
            await self._run(words, self._python, "-c", _IDENTIFY)
        except (OSError, _NotMade) as error:
            said = f"environments cannot be made with {self._python}: {error}; set FEDPLANE_ENVIRONMENTS_PYTHON to another Python"
            raise AppFailed("no-environment", said, words.decode(errors="replace")) from error
        version, _, build = words.decode().strip().partition(" ")
        return Python(tuple(map(int, version.split("."))), build)

    def _borrowed(self, name: str) -> int | None:
        """A shared lock on the environment; None if there is none that is finished."""
        made = self._root / name / MADE
        lock = self._locked(name, fcntl.LOCK_SH) if made.exists() else None
        if lock is not None and not made.exists():
            os.close(lock)
            return None
        if lock is not None:
            os.utime(made)
        return lock

    def _locked(self, name: str, kind: int) -> int | None:
        """A descriptor that has the lock, as has whoever inherits it; None if somebody else has."""
        path = self._root / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with suppress(BlockingIOError, FileNotFoundError):  # somebody else has it, or is just removing it
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:  # else the file was removed, and the next one is another's
                return descriptor
        os.close(descriptor)
        return None

    def _begin(self, recipe: Recipe) -> asyncio.Task[None]:
        task = asyncio.create_task(self._make(recipe), name=f"make {recipe.name}")
        self._making[recipe.name] = task
        task.add_done_callback(lambda task: self._end(recipe.name, task))
        return task

    def _end(self, name: str, task: asyncio.Task[None]) -> None:
        del self._making[name]
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            structlog.get_logger().warning("no environment", environment=name, why=str(failure))

    async def _make(self, recipe: Recipe) -> None:
        """Make the environment, unless somebody else has by the time that it is our turn."""
        words = bytearray()
        try:
            async with asyncio.timeout(self._bounds.seconds):
                while (lock := self._locked(recipe.name, fcntl.LOCK_EX)) is None:
                    was_made = (self._root / recipe.name / MADE).exists()
                    await asyncio.sleep(RETRY_SECONDS)
                    if was_made:  # whoever has the lock has made it and may use it for hours
                        return
                try:
                    if not (self._root / recipe.name / MADE).exists():
                        await self._fill(recipe, lock, words)
                finally:
                    os.close(lock)
        except (TimeoutError, OSError, _NotMade) as error:
            why = f"it takes longer than {self._bounds.seconds:g} s" if isinstance(error, TimeoutError) else str(error)
            said = f"no environment can be made of what the app asks for ({', '.join(recipe.lines)}): {why}"
            raise AppFailed("no-environment", said, words.decode(errors="replace").strip()) from error

    async def _fill(self, recipe: Recipe, lock: int, words: bytearray) -> None:
        """Make the environment in its directory, which nobody else uses meanwhile."""
        place, logger = self._root / recipe.name, structlog.get_logger(environment=recipe.name)
        loop = asyncio.get_running_loop()
        began = loop.time()
        logger.info("making an environment", python=str(self._python), requirements=list(recipe.lines))
        try:
            await asyncio.to_thread(_emptied, place)
            await asyncio.to_thread(self._make_room, recipe.name, 0)
            await self._run(words, self._python, "-m", "venv", place, lock=lock, logger=logger)
            asked = place / "requirements.txt"
            asked.write_text("".join(f"{line}\n" for line in recipe.lines))
            options = ("--disable-pip-version-check", "--no-input", "--progress-bar=off")
            await self._run(
                words, place / "bin" / "python", "-m", "pip", "install", *options, "--requirement", asked, lock=lock, logger=logger
            )
            size = await asyncio.to_thread(_bytes_in, place)
            await asyncio.to_thread(self._make_room, recipe.name, size)
            (place / MADE).write_text(json.dumps({"bytes": size, "python": str(self._python), "requirements": recipe.lines}))
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
            raise
        logger.info("made an environment", seconds=round(loop.time() - began, 1), megabytes=size // 1_000_000)

    async def _run(
        self, words: bytearray, *command: str | Path, lock: int | None = None, logger: structlog.stdlib.BoundLogger | None = None
    ) -> None:
        """Run a program to its end, of whose words the last are kept. Raises _NotMade if it fails, and OSError if it cannot be started."""
        inherited = () if lock is None else (lock,)  # so that nobody else begins while it runs on, should this process be killed
        process = await asyncio.create_subprocess_exec(
            *command, env=self._given, pass_fds=inherited, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        showing = asyncio.create_task(_show(words, logger)) if logger is not None else None
        try:
            while chunk := await process.stdout.read(WORDS_BYTES_MAX):
                words[:] = (words + chunk)[-WORDS_BYTES_MAX:]
            if await process.wait():
                raise _NotMade(f"{' '.join(map(str, command[1:4]))} failed with code {process.returncode}")
        finally:
            if showing is not None:
                showing.cancel()
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    def _make_room(self, name: str, size: int) -> None:
        """Remove environments until one of that size fits beside the rest, first what was never finished, then what was unused longest."""
        others = sorted((_last_lent(path), path.name, _size(path)) for path in self._root.iterdir() if path.is_dir() and path.name != name)
        number, total = len(others) + 1, sum(used for _, _, used in others) + size
        for _, other, freed in others:
            if number <= self._bounds.number and total <= self._bounds.bytes:
                return
            if self._removed(other):
                structlog.get_logger().info("removed an environment", environment=other, megabytes=freed // 1_000_000)
                number, total = number - 1, total - freed
        if number > self._bounds.number:
            raise _NotMade(f"{number - 1} others are in use, and there may be {self._bounds.number}; raise FEDPLANE_ENVIRONMENTS_MAX")
        if total > self._bounds.bytes:
            said = f"with those in use there would be {total} bytes of environments, and there may be {self._bounds.bytes}"
            raise _NotMade(f"{said}; raise FEDPLANE_ENVIRONMENTS_BYTES_MAX")

    def _removed(self, name: str) -> bool:
        """Whether the environment is gone; it stays if it is in use."""
        lock = self._locked(name, fcntl.LOCK_EX)
        if lock is None:
            return False
        try:
            (self._root / name / MADE).unlink(missing_ok=True)  # first, so that nobody takes what is left for an environment
            shutil.rmtree(self._root / name)
            (self._root / f"{name}.lock").unlink()
        finally:
            os.close(lock)
        return True


async def _show(words: bytearray, logger: structlog.stdlib.BoundLogger) -> None:
    """Say again and again that it goes on, with the installer's last line."""
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        logger.info("still making an environment", last=words.decode(errors="replace").strip().rpartition("\n")[2][:LINE_CHARACTERS_MAX])


def _emptied(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def _last_lent(place: Path) -> float:
    made = place / MADE
    return made.stat().st_mtime if made.exists() else 0.0


def _size(place: Path) -> int:
    made = place / MADE
    return int(json.loads(made.read_text())["bytes"]) if made.exists() else 0


def _bytes_in(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*"))
