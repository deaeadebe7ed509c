"""Programs of any language: one that reads a model's file and writes an update's needs no Python, and nothing of ours.

The app's directory holds an executable `federate`. For each request it is started there, as a process of its own, with three arguments:

    federate TASK DIRECTORY DATA

TASK is initialize, train or evaluate. DATA is what the cluster's claim says of where its data is, or where this container sees it.
DIRECTORY has `invitation.json`, and `model.safetensors` unless the task is to initialize; what is in them is told in this package.
The program leaves there `update.safetensors`, unless it evaluates, with the model's tensors in any order, and `metrics.json`:

    {"weight": 40, "metrics": {"loss": 0.31}}       weight: how many examples were used; not needed to initialize

In place of the latter it may leave `metric.json`, in that directory or in /metrics, as Open Cluster Management's sidecar reads it:

    {"metrics": {"num-examples": 40, "loss": "0.31"}, "labels": {"round": 3}}      labels are passed over, the round being known

/metrics is one place for a whole machine, so it is for a program that has its container to itself.
A program that exits with another code than 0 has failed, and what it printed says why.
It remembers nothing from request to request but what it keeps in files.
The runner itself needs a Python 3.9 here, without any library.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from . import Unanswerable
from .judging import WEIGHT, metric, weight
from .updates import settle

__all__ = ["Program", "open_app"]

_PROGRAM = "federate"

_UPSTREAM = Path("/metrics/metric.json")
"""Where Open Cluster Management's sidecar looks."""

_METRICS_BYTES_MAX = 500_000
"""More than that the collaborator would not read either."""

_READABLE = 0o644
"""By everyone: who asked may be another user, in another container."""


def open_app(directory: Path) -> Program:
    """The program of the directory. Raises Unanswerable."""
    program = directory / _PROGRAM
    if not program.is_file():
        raise Unanswerable(
            "load-failed", f"{directory} has no {_PROGRAM}; write a program that is started as {_PROGRAM} TASK DIRECTORY DATA"
        )
    if not os.access(program, os.X_OK):
        raise Unanswerable("load-failed", f"{program} cannot be executed; say: chmod +x {program}")
    return Program(program)


class Program:
    """A program that is started for each request."""

    def __init__(self, program: Path, upstream: Path = _UPSTREAM) -> None:
        self._program = program
        self._upstream = upstream

    def work(self, directory: Path, data: str = "") -> None:
        """Have the program do what the directory's invitation says, and judge what it leaves there; see `working.work`."""
        invitation = json.loads((directory / "invitation.json").read_text())
        task, model, update = invitation["task"], directory / "model.safetensors", directory / "update.safetensors"
        told = (directory / "metrics.json", directory / "metric.json", self._upstream)
        before = {file: _state(file) for file in told}
        self._run(task, str(directory), data or invitation["data"])
        written = [file for file, state in before.items() if _state(file) not in (None, state)]
        answer = _answer(written[0] if written else None, task)
        if task != "evaluate":
            settle(update, model if model.exists() and not invitation.get("appends") else None)
            update.chmod(_READABLE)
        told[0].write_text(json.dumps(answer))
        told[0].chmod(_READABLE)

    def _run(self, *arguments: str) -> None:
        command = [str(self._program), *arguments]
        try:
            code = subprocess.run(command, cwd=self._program.parent, stdin=subprocess.DEVNULL, check=False).returncode
        except OSError as error:
            raise Unanswerable("load-failed", f"{self._program} cannot be started: {error}; is what its first line names here?") from error
        if code > 0:
            raise Unanswerable("app-raised", f"the program {_PROGRAM} exited with code {code}; what it printed says why")
        if code < 0:
            known = -code in [known.value for known in signal.Signals]
            raise Unanswerable("crashed", f"the program {_PROGRAM} was killed by {signal.Signals(-code).name if known else -code}")


def _state(file: Path) -> tuple[int, int, int] | None:
    """What changes when the file is written; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _answer(file: Path | None, task: str) -> dict[str, Any]:
    """What the program says in that file of its work, as the collaborator reads it."""
    said = _read(file, task)
    metrics = {name: _number(value) for name, value in said.get("metrics", {}).items()}
    examples = said["weight"] if "weight" in said else metrics.pop(WEIGHT, 1 if task == "initialize" else None)
    return {
        "weight": weight(examples),
        "metrics": {name: metric(name, value) for name, value in metrics.items()},
        "configuration": said.get("configuration", {}),
    }


def _read(file: Path | None, task: str) -> dict[str, Any]:
    if file is None:
        if task == "initialize":
            return {}
        raise Unanswerable("no-weight", 'the program left no metrics.json; write {"weight": EXAMPLES, "metrics": {NAME: NUMBER}} there')
    try:
        with file.open("rb") as stream:
            said = json.loads(stream.read(_METRICS_BYTES_MAX))
    except (OSError, ValueError, RecursionError) as error:
        raise Unanswerable("app-raised", f"{file} is not JSON of at most {_METRICS_BYTES_MAX} bytes: {error}") from error
    if not isinstance(said, dict) or not isinstance(said.get("metrics", {}), dict):
        raise Unanswerable("app-raised", f'{file} must be an object such as {{"weight": 40, "metrics": {{"loss": 0.31}}}}')
    return said


def _number(value: Any) -> Any:
    """The number that a text says, as upstream allows."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
