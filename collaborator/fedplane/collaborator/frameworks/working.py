"""One request, done by an app that is loaded: from the files of its directory to the files of its answer.

Whoever asked may be another user, in another container, so what is left in the directory can be read by everyone.
When requests come, and what is said of them, is the business of `__main__`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from . import Unanswerable, tensors
from .answers import Answer, App, checked
from .asking import Asking, Server

__all__ = ["serve", "work"]

_READABLE = 0o644
"""By everyone, whatever the umask of the app's image."""


def work(app: App, directory: Path, data: str = "") -> None:
    """Do what the directory's invitation says. `data`, if given, is where the app sees its data, in place of what the invitation says.

    Raises Unanswerable, and whatever the app raises.
    """
    try:
        _leave(_answer(app, directory, data), directory)
    except tensors.BadTensors as error:
        raise Unanswerable("not-supported", str(error)) from error


def serve(server: Server, exchange: Callable[[int], None], directory: Path) -> None:
    """Run an app's own server to its end, as the directory says. `exchange` has what it asks answered."""
    try:
        drive = json.loads((directory / "drive.json").read_text())
        _leave(server.run(drive, Asking(directory, exchange)), directory)
    except tensors.BadTensors as error:
        raise Unanswerable("not-supported", str(error)) from error


def _answer(app: App, directory: Path, data: str) -> Answer:
    invitation = json.loads((directory / "invitation.json").read_text())
    invitation["home"] = str(directory.parent)
    if data:
        invitation["data"] = data
    task = invitation["task"]
    if task == "initialize":
        return checked(app.initialize(invitation), None)
    if task == "reply":
        sent = directory / "model.safetensors"
        return app.reply(invitation, tensors.read(sent), tensors.metadata(sent))
    if task not in ("train", "evaluate"):
        raise Unanswerable("not-supported", f"a runner can initialize, train, evaluate and reply; it was asked to {task}")
    model = tensors.read(directory / "model.safetensors")
    if task == "evaluate":
        return checked(app.evaluate(invitation, model), model)
    return checked(app.train(invitation, model), None if invitation.get("appends") else model)


def _leave(answer: Answer, directory: Path) -> None:
    if answer.tensors is not None:
        tensors.write(directory / "update.safetensors", answer.tensors, answer.told)
        (directory / "update.safetensors").chmod(_READABLE)
    measured = {"weight": answer.weight, "metrics": answer.metrics, "configuration": dict(answer.configuration)}
    (directory / "metrics.json").write_text(json.dumps(measured))
    (directory / "metrics.json").chmod(_READABLE)
