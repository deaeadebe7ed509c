"""The process in which an app runs: its environment, its two pipes, and its end.

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
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RUNNER", "Child", "app_environment", "deliver", "epitaph", "start"]

RUNNER = Path(__file__).parent / "frameworks"
"""The files that run in the app's environment. They are copied there, never imported here."""

PACKAGE = "fedplane_runner"
"""The name under which they are copied; no app has a module of that name by accident."""

REPLY_BYTES_MAX = 65_536
"""The longest line a runner may write: its own bound on a message, 2,000 characters, is less even when each is escaped."""

WITHHELD = ("FEDPLANE_", "NATS_", "OTEL_", "PYTHON", "VIRTUAL_ENV")
"""Variables beginning so are not the app's: our settings and secrets, and what would bend its Python to our environment."""


@dataclass(frozen=True, slots=True)
class Child:
    """A started process. `burial` ends with its exit code, when it and its descendants are dead."""

    pid: int
    requests: int
    replies: asyncio.StreamReader
    transport: asyncio.ReadTransport
    burial: asyncio.Task[int]

    def send(self, request: Mapping[str, str]) -> None:
        """Write a request. It is one short line into an empty pipe, so this never waits. Raises BrokenPipeError if nobody can read it."""
        os.write(self.requests, json.dumps(request).encode() + b"\n")

    async def kill(self) -> None:
        """The process and its descendants are gone when this returns."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.requests)
        self.transport.close()
        await asyncio.shield(self.burial)


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


async def start(python: Path, framework: str, directory: Path, environment: Mapping[str, str], log: Path) -> Child:
    """Start the runner for the app in the directory; what it prints is appended to the log. Raises OSError."""
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
            *(python, "-m", PACKAGE, "--framework", framework, "--app", directory),
            *("--requests", f"/dev/fd/{to_child}", "--replies", f"/dev/fd/{from_child}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=(output := its.enter_context(log.open("ab"))),
            stderr=output,
            cwd=directory,
            env=environment,
            pass_fds=(to_child, from_child),
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
