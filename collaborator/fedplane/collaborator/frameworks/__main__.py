"""The runner's loop: read a request, let the app work, say what became of it.

The user's code runs in the main thread, where frameworks expect to be.
Beside it there are a thread that says `alive` while there is work, and a guard.
The guard is a forked process that does nothing but wait for the requests to be closed.
It is a process because a thread of this one could not end it while the app holds the interpreter's lock.
It also keeps the id of the process group in use, so that the group can be killed by its id after this process is gone.

Started with a socket instead of pipes, this is the keeper of such processes; see `keeping`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from . import FRAMEWORKS, Framework, Unanswerable
from .keeping import keep

HEARTBEAT_SECONDS = 1.0
"""Often enough that a minute of silence means something, seldom enough to cost nothing."""

MESSAGE_CHARACTERS_MAX = 2_000
"""An exception's text may hold a whole array; a screenful tells a person what there is to tell."""


Exchange = Callable[[int], None]
"""Has what the app's server asked under that number answered."""

Load = Callable[[Framework, Exchange], Callable[[Path], None]]
"""Loads an app; returns what does the work of a request's directory."""


class _Replies:
    """The pipe on which this process speaks, and the thread that says `alive` on it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.at_work = threading.Event()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def say(self, **reply: Any) -> None:
        line = json.dumps(reply).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]

    def _beat(self) -> None:
        while self.at_work.wait():
            self.say(said="alive")
            time.sleep(HEARTBEAT_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fedplane_runner", description="Run a federated-learning app for one collaborator.")
    parser.add_argument("--framework", required=True, help="one of " + ", ".join(FRAMEWORKS))
    parser.add_argument("--app", required=True, type=Path, help="the app's directory")
    parser.add_argument("--drive", action="store_true", help="run the app's own server")
    parser.add_argument("--data-path", default="", help="where the app sees its data, in place of what an invitation says")
    parser.add_argument("--requests", help="the pipe to read requests from")
    parser.add_argument("--replies", help="the pipe to write replies to")
    parser.add_argument("--socket", type=Path, help="where a collaborator in another container listens, instead of the pipes")
    arguments = parser.parse_args()
    directory = arguments.app.resolve()
    if arguments.socket:
        # For its children: last words must be in the log when a process dies, and a segmentation fault is to leave some.
        os.environ.update(PYTHONUNBUFFERED="1", PYTHONFAULTHANDLER="1")
        told = [f"--framework={arguments.framework}", f"--app={directory}", f"--data-path={arguments.data_path}"]
        told += ["--drive"] if arguments.drive else []
        return keep(arguments.socket.absolute(), directory, told)
    if not (arguments.requests and arguments.replies):
        parser.error("say where to listen: --socket, or --requests and --replies")
    requests = _opened(arguments.requests, os.O_RDONLY)
    _post_guard(requests)
    replies = _Replies(_opened(arguments.replies, os.O_WRONLY))
    load = _load_server if arguments.drive else partial(_load_app, data=arguments.data_path)
    with os.fdopen(requests) as lines:
        return _serve(arguments.framework, partial(load, directory), lines, replies)


def _serve(framework: str, load: Load, lines: TextIO, replies: _Replies) -> int:
    """Answer requests until told to stop; an exit code."""
    replies.at_work.set()
    try:
        release, work = _loaded(framework, load, partial(_exchange, lines, replies))
    except Unanswerable as failure:
        replies.say(**_failed(failure.reason, failure))
        return 1
    replies.at_work.clear()
    replies.say(said="ready", framework=framework, version=release)
    while line := lines.readline():
        request = json.loads(line)
        if request["do"] == "stop":
            break
        replies.say(said="taken")  # first of all: an app that dies after this word died of its work
        replies.at_work.set()
        reply = _reply(work, Path(request["directory"]))
        replies.at_work.clear()
        replies.say(**reply)
    return 0


def _exchange(lines: TextIO, replies: _Replies, number: int) -> None:
    """Have somebody answer what the app's server asks, and wait for it. Nobody else reads requests meanwhile."""
    replies.say(said="asks", number=number)
    if json.loads(lines.readline()) != {"do": "answered", "number": number}:
        raise ValueError(f"what the server asked with number {number} was answered by something else")


def _opened(path: str, flags: int) -> int:
    """The pipe, by a descriptor that the app's own subprocesses do not inherit."""
    inherited = re.fullmatch(r"/dev/fd/(\d+)", path)
    if not inherited:
        return os.open(path, flags)
    os.set_inheritable(int(inherited[1]), False)  # not opened by its name, which a socket refuses
    return int(inherited[1])


def _post_guard(requests: int) -> None:
    """Have the process group killed when the other end of the requests is closed."""
    runner, leads_group = os.getpid(), os.getpgrp() == os.getpid()
    if os.fork():
        return
    hang_up = select.poll()
    # That a pipe hangs up is reported unasked, that only the other half of a socket is closed on Linux alone; and nothing is read away.
    hang_up.register(requests, getattr(select, "POLLRDHUP", 0))
    hang_up.poll()
    if leads_group:
        os.killpg(runner, signal.SIGKILL)
    elif os.getppid() == runner:
        os.kill(runner, signal.SIGKILL)
    os._exit(0)


def _loaded(name: str, load: Load, exchange: Exchange) -> tuple[str, Callable[[Path], None]]:
    """The framework's release, and what does the work of a request's directory."""
    framework = FRAMEWORKS.get(name)
    if framework is None:
        raise Unanswerable("not-supported", f"apps of the framework {name!r} cannot be run here; those of {', '.join(FRAMEWORKS)} can")
    release = _release(name, framework)
    os.environ.update(framework.environment)
    try:
        return release, load(framework, exchange)
    except ImportError as error:
        raise Unanswerable("load-failed", f"{name} cannot be imported in the app's environment: {error}; install the app again") from error


def _load_app(directory: Path, framework: Framework, exchange: Exchange, data: str) -> Callable[[Path], None]:
    adapter = importlib.import_module("." + framework.module, __package__)
    if framework.by_files:
        return partial(adapter.open_app(directory).work, data=data)
    working = importlib.import_module(".working", __package__)  # not before: it needs the app's numpy
    return partial(working.work, adapter.open_app(directory), data=data)


def _load_server(directory: Path, framework: Framework, exchange: Exchange) -> Callable[[Path], None]:
    if not framework.server:
        those = ", ".join(name for name, known in FRAMEWORKS.items() if known.server)
        raise Unanswerable("not-supported", f"only apps of {those} have a server that can be run here; name a strategy other than app")
    adapter = importlib.import_module("." + framework.server, __package__)
    working = importlib.import_module(".working", __package__)
    return partial(working.serve, adapter.open_server(directory), exchange)


def _release(name: str, framework: Framework) -> str:
    if not framework.distribution:
        return ""
    wanted = " or ".join((framework.wanted[0], *framework.instead))
    found = next(filter(None, map(_installed, (framework.distribution, *framework.others))), None)
    if found is None:
        raise Unanswerable("load-failed", f"the app's environment has no {name}; install {wanted} in it")
    distribution, release = found
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if not framework.lowest <= numbers < framework.below:
        raise Unanswerable("load-failed", f"the app's environment has {distribution} {release}; install {wanted} in it")
    return release


def _installed(distribution: str) -> tuple[str, str] | None:
    """The distribution and its release, if there is one."""
    try:
        return distribution, version(distribution)
    except PackageNotFoundError:
        return None


def _reply(work: Callable[[Path], None], directory: Path) -> dict[str, Any]:
    """Do the work; the reply to it. Whatever the app raises is an answer, and its traceback is for the app's log."""
    try:
        work(directory)
    except Unanswerable as failure:
        return _failed(failure.reason, failure)
    except (Exception, SystemExit) as raised:  # noqa: BLE001 -- foreign code may raise anything, and all of it is to be reported
        traceback.print_exc()
        return _failed("app-raised", f"{type(raised).__name__}: {raised}")
    return {"said": "done"}


def _failed(reason: str, failure: BaseException | str) -> dict[str, Any]:
    if isinstance(failure, BaseException) and failure.__cause__ is not None:
        traceback.print_exception(type(failure.__cause__), failure.__cause__, failure.__cause__.__traceback__)  # where the app went wrong
    return {"said": "failed", "reason": reason, "message": str(failure)[:MESSAGE_CHARACTERS_MAX]}


if __name__ == "__main__":
    sys.exit(main())
