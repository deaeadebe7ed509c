"""The runner's loop: read a request, let the app work, say what became of it.

The user's code runs in the main thread, where frameworks expect to be.
Beside it there are a thread that says `alive` while there is work, and a guard.
The guard is a forked process that does nothing but wait for the requests to be closed.
It is a process because a thread of this one could not end it while the app holds the interpreter's lock.
It also keeps the id of the process group in use, so that the group can be killed by its id after this process is gone.
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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import FRAMEWORKS, Framework, tensors
from .answers import App, Unanswerable, checked

HEARTBEAT_SECONDS = 1.0
"""Often enough that a minute of silence means something, seldom enough to cost nothing."""

MESSAGE_CHARACTERS_MAX = 2_000
"""An exception's text may hold a whole array; a screenful tells a person what there is to tell."""


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
    parser.add_argument("--requests", required=True, help="the pipe to read requests from")
    parser.add_argument("--replies", required=True, help="the pipe to write replies to")
    arguments = parser.parse_args()

    requests = _opened(arguments.requests, os.O_RDONLY)
    _post_guard(requests)
    replies = _Replies(_opened(arguments.replies, os.O_WRONLY))
    replies.at_work.set()
    try:
        release, app = _load(arguments.framework, arguments.app.resolve())
    except Unanswerable as failure:
        replies.say(**_failed(failure.reason, failure))
        return 1
    replies.at_work.clear()
    replies.say(said="ready", framework=arguments.framework, version=release)
    with os.fdopen(requests) as lines:
        for line in lines:
            request = json.loads(line)
            if request["do"] == "stop":
                break
            replies.say(said="alive")  # first of all: an app that dies after this word died of its work
            replies.at_work.set()
            reply = _reply(app, Path(request["directory"]))
            replies.at_work.clear()
            replies.say(**reply)
    return 0


def _opened(path: str, flags: int) -> int:
    """The pipe, by a descriptor that the app's own subprocesses do not inherit."""
    descriptor = os.open(path, flags)
    inherited = re.fullmatch(r"/dev/fd/(\d+)", path)
    if inherited:
        os.close(int(inherited[1]))
    return descriptor


def _post_guard(requests: int) -> None:
    """Have the process group killed when the other end of the requests is closed."""
    runner, leads_group = os.getpid(), os.getpgrp() == os.getpid()
    if os.fork():
        return
    hang_up = select.poll()
    hang_up.register(requests, 0)  # to hang up is reported unasked, and nothing is read away from the runner
    hang_up.poll()
    if leads_group:
        os.killpg(runner, signal.SIGKILL)
    elif os.getppid() == runner:
        os.kill(runner, signal.SIGKILL)
    os._exit(0)


def _load(name: str, directory: Path) -> tuple[str, App]:
    framework = FRAMEWORKS.get(name)
    if framework is None:
        raise Unanswerable("not-supported", f"apps of the framework {name!r} cannot be run here; those of {', '.join(FRAMEWORKS)} can")
    release = _release(name, framework)
    os.environ.update(framework.environment)
    try:
        adapter = importlib.import_module("." + framework.module, __package__)
    except ImportError as error:
        raise Unanswerable("load-failed", f"{name} cannot be imported in the app's environment: {error}; install the app again") from error
    app: App = adapter.open_app(directory)
    return release, app


def _release(name: str, framework: Framework) -> str:
    if not framework.distribution:
        return ""
    wanted = f"{framework.distribution}>={_dotted(framework.lowest)},<{_dotted(framework.below)}"
    try:
        release = version(framework.distribution)
    except PackageNotFoundError as error:
        raise Unanswerable("load-failed", f"the app's environment has no {name}; install {wanted} in it") from error
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if not framework.lowest <= numbers < framework.below:
        raise Unanswerable("load-failed", f"the app's environment has {framework.distribution} {release}; install {wanted} in it")
    return release


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _reply(app: App, directory: Path) -> dict[str, Any]:
    """Do the work; the reply to it. Whatever the app raises is an answer, and its traceback is for the app's log."""
    try:
        _work(app, directory)
    except Unanswerable as failure:
        return _failed(failure.reason, failure)
    except tensors.BadTensors as failure:
        return _failed("not-supported", failure)
    except (Exception, SystemExit) as raised:  # noqa: BLE001 -- foreign code may raise anything, and all of it is to be reported
        traceback.print_exc()
        return _failed("app-raised", f"{type(raised).__name__}: {raised}")
    return {"said": "done"}


def _work(app: App, directory: Path) -> None:
    invitation = json.loads((directory / "invitation.json").read_text())
    task = invitation["task"]
    if task == "initialize":
        model, answer = None, app.initialize(invitation)
    elif task in ("train", "evaluate"):
        model = tensors.read(directory / "model.safetensors")
        answer = app.train(invitation, model) if task == "train" else app.evaluate(invitation, model)
    else:
        raise Unanswerable("not-supported", f"a runner can initialize, train and evaluate; it was asked to {task}")
    answer = checked(answer, model)
    if answer.tensors is not None:
        tensors.write(directory / "update.safetensors", answer.tensors)
    measured = {"weight": answer.weight, "metrics": answer.metrics, "configuration": dict(answer.configuration)}
    (directory / "metrics.json").write_text(json.dumps(measured))


def _failed(reason: str, failure: BaseException | str) -> dict[str, Any]:
    if isinstance(failure, BaseException) and failure.__cause__ is not None:
        traceback.print_exception(type(failure.__cause__), failure.__cause__, failure.__cause__.__traceback__)  # where the app went wrong
    return {"said": "failed", "reason": reason, "message": str(failure)[:MESSAGE_CHARACTERS_MAX]}


if __name__ == "__main__":
    sys.exit(main())
