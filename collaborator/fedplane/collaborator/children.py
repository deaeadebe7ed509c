"""The user's app as a child of this process, by the Python of its own environment: its environment, its two pipes, and its end.

It must leave nothing behind, so it leads a process group of its own, and its end is the end of the whole group.
That holds whether it is killed or exits, and when this process dies: then the requests are closed, and the runner's guard kills the group.
A descendant that leaves the group on purpose is not followed.
What is said on the pipes is the business of `apps`; what the files are that run there is told in `frameworks`.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fedplane.runtime.errors import AppFailed

__all__ = [
    "PACKAGE", "REPLY_BYTES_MAX", "RUNNER", "WITHHELD", "App", "Child",
    "app_environment", "child_of", "deliver", "epitaph", "own_python", "plain_python",
]  # fmt: skip

RUNNER = Path(__file__).parent / "frameworks"
"""The files that run in the app's environment. They are copied there, never imported here."""

PACKAGE = "fedplane_runner"
"""The name under which they are copied; no app has a module of that name by accident."""

REPLY_BYTES_MAX = 65_536
"""The longest line a runner may write: its own bound on a message, 2,000 characters, is less even when each is escaped."""

WITHHELD = ("FEDPLANE_", "NATS_", "OTEL_", "PYTHON", "VIRTUAL_ENV")
"""Variables beginning so are not the app's: our settings and secrets, and what would bend its Python to our environment."""


THREADS = 1
"""Threads per numerical library, unless the caller says otherwise; 0 leaves it to the app.
Several collaborators share a machine, and libraries that each take every core are slower together than with one thread each.
"""


@dataclass(frozen=True, slots=True)
class App:
    """Which app: its directory, the framework that it is written for, and the Python of its own environment.

    `drives` is whether its own server is to run, instead of its client.
    """

    directory: Path
    framework: str
    python: Path
    drives: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """A started process; see `apps.Runner`. `burial` ends with its exit code, when it and its descendants are dead."""

    pid: int
    requests: int
    replies: asyncio.StreamReader
    transport: asyncio.ReadTransport
    burial: asyncio.Task[int]

    async def hear(self) -> bytes:
        """See `apps.Runner.hear`."""
        return await self.replies.readline()

    def send(self, request: Mapping[str, str | int]) -> None:
        """See `apps.Runner.send`. It is one short line into an empty pipe, so this never waits."""
        os.write(self.requests, json.dumps(request).encode() + b"\n")

    async def ended(self) -> str:
        """See `apps.Runner.ended`."""
        return epitaph(await asyncio.shield(self.burial))

    async def kill(self) -> None:
        """See `apps.Runner.kill`."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.requests)
        self.transport.close()
        await asyncio.shield(self.burial)


def own_python(directory: Path) -> Path | None:
    """The Python of the app's own environment; None if it has none."""
    python = directory / ".venv" / "bin" / "python"
    return python if python.exists() else None


def plain_python() -> Path:
    """For the runner of an app that has no Python of its own: the one that runs us, without what is installed for us."""
    return Path(sys.executable).resolve()


def child_of(
    app: App,
    workdir: Path,
    environment: Mapping[str, str],
    *,
    threads: int = THREADS,
    runner: Path = RUNNER,
    inherited: Sequence[int] = (),
) -> Callable[[Path], Awaitable[Child]]:
    """What starts a fresh process for the app; it is given the log to which is appended what the app prints.

    `workdir` is the app's alone, and the runner's files are put there; `environment` is this process's own.
    The process and what it forks keep the `inherited` descriptors open as long as they live.
    """
    # The app's process has another working directory, so no path may depend on ours. A Python that is a link must stay that link.
    app = replace(app, directory=app.directory.absolute(), python=app.python.absolute())
    workdir = workdir.absolute()
    given = app_environment(environment, app.python, workdir, threads)

    async def start(log: Path) -> Child:
        deliver(runner, workdir)
        try:
            return await _start(app, given, log, inherited)
        except (OSError, ValueError) as error:  # the latter by a name with a null byte in it
            said = f"the app's Python cannot be started: {error}; make its environment again"
            raise AppFailed("load-failed", said) from error

    return start


def deliver(runner: Path, workdir: Path) -> None:
    """Put the runner's files where the app's Python will find them."""
    shutil.copytree(runner, workdir / PACKAGE, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def app_environment(given: Mapping[str, str], python: Path, workdir: Path, threads: int) -> dict[str, str]:
    """What the app is given of this process's environment, and what is added."""
    environment = {name: value for name, value in given.items() if not name.startswith(WITHHELD)}
    environment["PATH"] = os.pathsep.join([str(python.parent), given.get("PATH", os.defpath)])
    environment["PYTHONPATH"] = str(workdir)
    environment["PYTHONUNBUFFERED"] = "1"  # last words must be in the log when the process dies
    environment["PYTHONFAULTHANDLER"] = "1"  # and a segmentation fault is to leave some
    if threads:
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return environment


async def _start(app: App, environment: Mapping[str, str], log: Path, inherited: Sequence[int]) -> Child:
    loop = asyncio.get_running_loop()
    with ExitStack() as ours, ExitStack() as its:
        # Whatever fails below closes our ends; and a process that was started all the same ends when its requests are closed.
        to_child, requests = os.pipe()
        its.callback(os.close, to_child)
        ours.callback(os.close, requests)
        replies, from_child = os.pipe()
        its.callback(os.close, from_child)
        reader = asyncio.StreamReader(limit=REPLY_BYTES_MAX)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(replies, "rb", 0))
        ours.callback(transport.close)
        process = await asyncio.create_subprocess_exec(
            *(app.python, "-m", PACKAGE, "--framework", app.framework, "--app", app.directory),
            *(("--drive",) if app.drives else ()),
            *("--requests", f"/dev/fd/{to_child}", "--replies", f"/dev/fd/{from_child}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=(output := its.enter_context(log.open("ab"))),
            stderr=output,
            cwd=app.directory,
            env=environment,
            pass_fds=(to_child, from_child, *inherited),
            start_new_session=True,
        )
        ours.pop_all()
    return Child(process.pid, requests, reader, transport, asyncio.create_task(_bury(process), name=f"bury {process.pid}"))


async def _bury(process: asyncio.subprocess.Process) -> int:
    """Wait for the process's end, and end whatever it left running.

    The id of its group cannot have become another's by then: the runner's guard is in the group for as long as the requests are open.
    """
    code = await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return code


def epitaph(code: int) -> str:
    """What an exit code says of how a process ended in the middle of its work."""
    if code >= 0:
        return f"the app's process exited by itself with code {code} in the middle of its work"
    known = -code in [known.value for known in signal.Signals]
    name = signal.Signals(-code).name if known else f"signal {-code}"
    why = "; the machine may have been out of memory" if -code == signal.SIGKILL else ""
    return f"the app's process was killed by {name}{why}"
