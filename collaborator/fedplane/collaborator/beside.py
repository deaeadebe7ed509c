"""The user's app in a container of its own, beside this process: on Kubernetes the app's image runs as it is, in the same pod.

The app's container cannot be started or killed from here, so its runner comes to us: it connects to a socket in a directory that both see.
A connection is a process that runs the app, from being told to load it to its end; to end it, our half of the connection is closed.
Connections are accepted one at a time, when an app is needed and there is none. Whoever else connects waits, and is never listened to.
So neither side needs the other to live: whoever is started again listens, or connects, again.

The two containers may be different users. What is made here is open to both, since nobody else sees the directory.
What is said on the connection is told in `frameworks`; how a pod is made of all this is the scheduler's business.
"""

import asyncio
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import structlog

from fedplane.collaborator.children import REPLY_BYTES_MAX, epitaph
from fedplane.runtime.errors import Unavailable

__all__ = ["Guest", "Meeting", "meeting"]

OPEN_TO_BOTH = 0o666
"""The directory is an emptyDir of one pod: its containers are all that can reach what is in it."""

WAITING_MAX = 8
"""How many connections may wait to be accepted. One runner needs one; who comes when there is no room tries again."""

ENDING_SECONDS = 5.0
"""How long a process may take to be dead and buried after the connection is closed; killing takes milliseconds."""


class Guest:
    """A connected runner. See `apps.Runner`."""

    def __init__(self, replies: asyncio.StreamReader, requests: asyncio.StreamWriter) -> None:
        self._replies = replies
        self._requests = requests
        self._code: int | None = None

    async def hear(self) -> bytes:
        """See `apps.Runner.hear`."""
        try:
            line = await self._replies.readline()
        except ConnectionError:  # it was closed before all that we said was read
            return b""
        code = _code(line)
        if code is None:
            return line
        self._code = code
        return b""

    def send(self, request: Mapping[str, str | int]) -> None:
        """See `apps.Runner.send`."""
        if not self._requests.is_closing():  # else what it last said tells why
            self._requests.write(json.dumps(request).encode() + b"\n")

    async def ended(self) -> str:
        """See `apps.Runner.ended`."""
        while self._code is None:
            with suppress(ValueError):  # a line that is too long, and that nobody waits for any more
                if not await self.hear():
                    break
        if self._code is None:
            return "the app's container ended in the middle of its work; its state says why, which may be that it was out of memory"
        return epitaph(self._code)

    async def kill(self) -> None:
        """See `apps.Runner.kill`."""
        try:
            if not self._requests.is_closing():
                with suppress(OSError):  # the other side was faster
                    self._requests.write_eof()
            async with asyncio.timeout(ENDING_SECONDS):
                await self.ended()
        except TimeoutError:
            structlog.get_logger().warning("the app's process may still run", why=f"its end was not said within {ENDING_SECONDS:g} s")
        finally:
            self._requests.close()


class Meeting:
    """A place at which a runner is awaited."""

    def __init__(self, path: Path, listening: socket.socket) -> None:
        self._path = path
        self._listening = listening

    async def welcome(self, log: Path) -> Guest:
        """A fresh process that loads the app, as soon as a runner is there; what the app prints is appended to the log."""
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(self._listening)
            if not _has_left(accepted):
                break
            accepted.close()
        guest = Guest(*await asyncio.open_unix_connection(sock=accepted, limit=REPLY_BYTES_MAX))
        guest.send({"do": "load", "log": str(log)})
        return guest

    def dismiss(self) -> None:
        """Let the runner know that it is not needed any more, and whoever is started in its place as well."""
        self._path.with_name(self._path.name + ".ended").touch()


@contextmanager
def meeting(path: Path) -> Iterator[Meeting]:
    """Listen at the path meanwhile, and let both containers use what this process makes. Raises Unavailable."""
    before = os.umask(0)
    try:
        with closing(_listening(path)) as listening:
            yield Meeting(path, listening)
    finally:
        os.umask(before)


def _listening(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)  # of a process that was killed
        listening.bind(str(path))
        path.chmod(OPEN_TO_BOTH)
        listening.listen(WAITING_MAX)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise Unavailable(f"no app can be met at {path}: {error}; let FEDPLANE_APP_SOCKET be in a directory that is there") from error
    return listening


def _has_left(accepted: socket.socket) -> bool:
    """Whether whoever connected is gone by now: killed while it waited, say."""
    accepted.setblocking(False)
    try:
        return not accepted.recv(1, socket.MSG_PEEK)
    except BlockingIOError:  # it is there and says nothing, as it should
        return False
    except OSError:
        return True


def _code(line: bytes) -> int | None:
    """The exit code in a keeper's last words; None if the line is something else."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    code = said.get("code") if isinstance(said, dict) and said.get("said") == "ended" else None
    return code if isinstance(code, int) else None
