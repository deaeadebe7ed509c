"""A Flower app's directory: what it declares, loading it, its run configuration, and how Flower knows runs and nodes.

Whoever wrote the app is told here what keeps it from running: in which file, and what to do.
Written against flwr 1.38 to 1.41, which bring `packaging`.
What is not public there has to be looked at with every release: `TaskIdentity`, `Run`, the reading of pyproject.toml, and `load_app`.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from flwr.app import Message, RecordDict
from flwr.common.config import get_fused_config_from_dir, get_project_config
from flwr.serverapp import Grid
from flwr.supercore.object_ref import load_app
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from . import Unanswerable

__all__ = ["SERVER_NODE", "NodesGrid", "Project", "identify", "node_at"]

SERVER_NODE = 1
"""A SuperLink's own node id."""


class _Missing(Exception):
    """The module has no attribute of that name, or the reference is none."""


class Project(NamedTuple):
    """A Flower app: its directory, and its pyproject.toml."""

    directory: Path
    document: dict[str, Any]

    @classmethod
    def at(cls, directory: Path) -> Project:
        """The app of the directory. Raises Unanswerable."""
        try:
            project = cls(directory, get_project_config(directory))
        except (OSError, ValueError) as error:
            raise Unanswerable("load-failed", f"{directory} holds no Flower app: {error}; mend its pyproject.toml") from error
        project._insist_on_python()
        return project

    def component(self, name: str, kind: type) -> Any:
        """The app's "clientapp" or "serverapp". Raises Unanswerable."""
        reference = self.document["tool"]["flwr"]["app"]["components"].get(name)
        if not isinstance(reference, str):  # Flower takes an app of another kind, which has neither
            said = f'{self._file} has no {name} below [tool.flwr.app.components]; write {name} = "module:attribute"'
            raise Unanswerable("load-failed", said)
        found = self.load(name, reference)
        if not isinstance(found, kind):
            said = f"{name} {reference!r} of {self._file} is a {type(found).__name__}; it must be a flwr.{name}.{kind.__name__}"
            raise Unanswerable("load-failed", said)
        return found

    def load(self, name: str, reference: str) -> Any:
        """What the app has at `module:attribute`. Raises Unanswerable."""
        try:
            return load_app(reference, _Missing, self.directory)
        except (Exception, SystemExit) as error:  # importing the app runs the user's code, which may raise anything
            said = f"{name} {reference!r} of {self._file} cannot be loaded: {_mend(reference.partition(':')[0], error)}"
            raise Unanswerable("load-failed", said) from error

    def run_config(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """The app's own configuration with what the resource says instead. Raises Unanswerable."""
        try:
            fused: dict[str, Any] = get_fused_config_from_dir(self.directory, overrides)
        except ValueError as error:
            mend = "spec.config may only set what [tool.flwr.app.config] in the app's pyproject.toml has"
            raise Unanswerable("load-failed", f"the run configuration does not fit the app: {error}; {mend}") from error
        return fused

    @property
    def _file(self) -> Path:
        return self.directory / "pyproject.toml"

    def _insist_on_python(self) -> None:
        """An environment that is made for the app fits; one that the app brings, or that is set, need not."""
        needed, have = str(self.document["project"].get("requires-python", "")), platform.python_version()
        try:
            fits = SpecifierSet(needed).contains(have, prereleases=True)
        except InvalidSpecifier as error:
            said = f"{self._file} has requires-python {needed!r}, which is no comparison with a version; write it as in >=3.11,<3.13"
            raise Unanswerable("load-failed", said) from error
        if not fits:
            mend = "make the app's environment with one that fits, or mend the file"
            raise Unanswerable("load-failed", f"{self._file} requires Python {needed}, and {sys.executable} is {have}; {mend}")


def _mend(module: str, error: BaseException) -> str:
    """What is wrong with a module that has an app, and what to do."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, _Missing):
        return f"there is no such component in {module!r}; mend the name, or the module"
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"{said}; mend the app"
    if f"{module}.".startswith(f"{error.name}."):
        return f"{said}; the app has no such module, so mend the name"
    return f"{said}; add the package that has it to the dependencies in that file, and to the app's environment if it brings one"


def node_at(position: int) -> int:
    """The number of the cluster at this position among the run's clusters: small ones, which also an app that packs them can hold."""
    return SERVER_NODE + 1 + position


def identify(run: str) -> int:
    """The run's number, which from now on is that of every message made in this process; their sender is the server."""
    number = int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big")
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = number, SERVER_NODE, 1
    return number


class NodesGrid(Grid):  # type: ignore[misc]  # Flower is not installed where types are checked
    """A grid with that many nodes, all of them there from the beginning. What becomes of messages is for others to say."""

    def __init__(self, run: int, nodes: int) -> None:
        self._run = Run.create_empty(run)
        self._nodes = [node_at(position) for position in range(nodes)]

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)
