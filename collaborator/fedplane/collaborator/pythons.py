"""Which Python an app's process is started with: the one that is set, the app's own, or that of an environment which is made for it.

Clients and servers of apps are started alike, so this is said once.
How an environment is made is the business of `environments`, how a process is started that of `children`.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from fedplane.collaborator.apps import StartRunner
from fedplane.collaborator.children import App, Child, child_of, own_python, plain_python
from fedplane.collaborator.environments import Bounds, Environments
from fedplane.collaborator.frameworks import FRAMEWORKS
from fedplane.collaborator.settings import AppSettings

__all__ = ["environments_of", "starting"]


def environments_of(settings: AppSettings, environment: Mapping[str, str]) -> Environments:
    """The environments that are made for apps that have none."""
    bounds = Bounds(settings.environments_max, settings.environments_bytes_max, settings.environments_seconds_max)
    return Environments(settings.environments, settings.environments_python or Path(sys.executable), environment, bounds)


def starting(
    directory: Path,
    framework: str,
    workdir: Path,
    *,
    python: Path | None,
    environments: Environments,
    environment: Mapping[str, str],
    drives: bool = False,
) -> StartRunner:
    """What starts a process for the app in the directory; `workdir` is its own, and `environment` this process's. `python` may be set."""
    known = FRAMEWORKS.get(framework)
    needs_none = known is None or known.by_files  # any Python can say that it does not know a framework
    own = python or (plain_python() if needs_none else own_python(directory))
    wanted, instead = (known.wanted, known.instead) if known else ((), ())

    async def start(log: Path) -> Child:
        if own is not None:
            return await child_of(App(directory, framework, own, drives), workdir, environment)(log)
        async with environments.lent(directory, framework, wanted, instead) as (made, lock):
            return await child_of(App(directory, framework, made, drives), workdir, environment, inherited=(lock,))(log)

    return start
