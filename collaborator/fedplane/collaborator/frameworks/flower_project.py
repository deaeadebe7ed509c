"""A Flower app's directory: what it declares, loading it, its run configuration, and the numbers by which Flower knows runs and nodes.

Written against flwr 1.38 to 1.41.
What is not public there has to be looked at with every release: `TaskIdentity`, the reading of pyproject.toml, and `load_app`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from flwr.common.config import get_fused_config_from_dir, get_project_config
from flwr.supercore.object_ref import load_app
from flwr.supercore.task_identity import TaskIdentity

from . import Unanswerable

__all__ = ["SERVER_NODE", "Project", "identify", "node_at"]

SERVER_NODE = 1
"""A SuperLink's own node id."""


class Project(NamedTuple):
    """A Flower app: its directory, and its pyproject.toml."""

    directory: Path
    document: dict[str, Any]

    @classmethod
    def at(cls, directory: Path) -> Project:
        """The app of the directory. Raises Unanswerable."""
        try:
            return cls(directory, get_project_config(directory))
        except (OSError, ValueError) as error:
            raise Unanswerable("load-failed", f"{directory} holds no Flower app: {error}; mend its pyproject.toml") from error

    def component(self, name: str, kind: type) -> Any:
        """The app's "clientapp" or "serverapp". Raises Unanswerable."""
        reference = self.document["tool"]["flwr"]["app"]["components"][name]
        found = self.load(name, reference)
        if not isinstance(found, kind):
            said = f"{name} {reference!r} is a {type(found).__name__}; it must be a flwr.{name}.{kind.__name__}"
            raise Unanswerable("load-failed", said)
        return found

    def load(self, name: str, reference: str) -> Any:
        """What the app has at `module:attribute`. Raises Unanswerable."""
        try:
            return load_app(reference, LookupError, self.directory)
        except (Exception, SystemExit) as error:  # importing the app runs the user's code, which may raise anything
            mend = "install the app's dependencies, or mend its pyproject.toml"
            raise Unanswerable("load-failed", f"{name} {reference!r} cannot be loaded: {type(error).__name__}: {error}; {mend}") from error

    def run_config(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """The app's own configuration with what the resource says instead. Raises Unanswerable."""
        try:
            fused: dict[str, Any] = get_fused_config_from_dir(self.directory, overrides)
        except ValueError as error:
            mend = "spec.config may only set what [tool.flwr.app.config] in the app's pyproject.toml has"
            raise Unanswerable("load-failed", f"the run configuration does not fit the app: {error}; {mend}") from error
        return fused


def node_at(position: int) -> int:
    """The number of the cluster at this position among the run's clusters: small ones, which also an app that packs them can hold."""
    return SERVER_NODE + 1 + position


def identify(run: str) -> int:
    """The run's number, which from now on is that of every message made in this process; their sender is the server."""
    number = int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big")
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = number, SERVER_NODE, 1
    return number
