"""The keeper: what a container with the user's image runs, so that a collaborator in another container can have the app work.

It meets the collaborator at a socket, and starts a fresh process for the app each time that it is told to.
It does nothing else, and imports nothing of the app, so it outlives whatever the app does.
So an app that crashes, or is stopped because a round is over, costs no restart of its container, which Kubernetes would delay.
It may be the first process of its container, so it ends when it is told to (SIGTERM), and buries whatever an app leaves behind.
What is said on the socket is told in the package's description; what an app's process does is the business of `__main__`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["keep"]

_HERE = Path(__file__).parents[1]
"""What a Python is started with to run these files."""

_RETRY_SECONDS = 0.2
"""Between two attempts to connect: far less than loading a framework takes, and far too seldom to be a load."""

_PATIENCE_SECONDS = 600.0
"""How long nobody may listen. A container that fails again and again is started every five minutes, so this is one that is gone."""

_LINE_BYTES_MAX = 65_536
"""The longest line that a collaborator may write to a keeper: a path, and some words."""

_TOLD_TO_END = 128 + signal.SIGTERM
"""As shells say it."""


def keep(path: Path, directory: Path, arguments: Sequence[str], patience_seconds: float = _PATIENCE_SECONDS) -> int:
    """Keep the app of the directory for whoever listens at the path, until the run has ended; an exit code.

    The arguments are those with which the app's process is started.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(_TOLD_TO_END))
    ended, heard = path.with_name(path.name + ".ended"), time.monotonic()
    while not ended.exists():
        with socket.socket(socket.AF_UNIX) as line:
            if _reached(line, path):
                _serve(line, directory, arguments)
                heard = time.monotonic()
        if time.monotonic() - heard > patience_seconds:
            sys.stderr.write(f"nobody has listened at {path} for {patience_seconds:g} s; look at the collaborator beside this container\n")
            return 1
        time.sleep(_RETRY_SECONDS)
    return 0


def _reached(line: socket.socket, path: Path) -> bool:
    try:
        line.connect(str(path))
    except OSError:  # not yet, or not any more
        return False
    return True


def _serve(line: socket.socket, directory: Path, arguments: Sequence[str]) -> None:
    """Wait for the word to load the app, and say how its process has ended."""
    load = _heard(line)
    if load is None:
        return
    try:
        said = {"said": "ended", "code": _run(line, directory, arguments, Path(load["log"]))}
    except OSError as error:
        said = {"said": "failed", "reason": "load-failed", "message": f"the app's process cannot be started: {error}"}
    with contextlib.suppress(OSError):  # whoever has closed the connection knows
        line.sendall(json.dumps(said).encode() + b"\n")


def _heard(line: socket.socket) -> dict[str, Any] | None:
    """The first line; None if the connection ends without one. Nothing after it is read: that is for the app's process."""
    try:
        with line.makefile("rb", buffering=0) as lines:
            text = lines.readline(_LINE_BYTES_MAX)
    except OSError:  # a reset is an end as well
        return None
    said: dict[str, Any] | None = json.loads(text) if text.endswith(b"\n") else None
    return said


def _run(line: socket.socket, directory: Path, arguments: Sequence[str], log: Path) -> int:
    """The exit code of the app's process, when it and its descendants are dead and all that they printed is shown. Raises OSError."""
    pipe = f"/dev/fd/{line.fileno()}"
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, str(_HERE), *arguments, "--requests", pipe, "--replies", pipe],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            pass_fds=(line.fileno(),),
            start_new_session=True,
        )
    over = threading.Event()
    shown = threading.Thread(target=_show, args=(log, begin, over), name="show")
    shown.start()
    try:
        return process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):  # its group is empty
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _bury(process.pid)
        over.set()
        shown.join()


def _show(log: Path, begin: int, over: threading.Event) -> None:
    """Repeat the log on standard output, which is the container's log. The collaborator may cut it meanwhile; then it begins anew."""
    with log.open("rb", buffering=0) as printed:
        printed.seek(begin)
        while True:
            is_over = over.is_set()
            while chunk := printed.read(_LINE_BYTES_MAX):
                sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
            if is_over:
                return
            if os.fstat(printed.fileno()).st_size < printed.tell():
                printed.seek(0)
            over.wait(_RETRY_SECONDS)


def _bury(group: int) -> None:
    """Wait for the rest of a group that was killed, and bury whoever left the group and has ended.

    Orphans are children of their container's first process. Where this is not the first one, somebody else buries them.
    """
    with contextlib.suppress(ChildProcessError):  # all of them are buried
        while True:
            os.waitpid(-group, 0)
    with contextlib.suppress(ChildProcessError):  # there are no others
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
