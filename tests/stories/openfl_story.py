"""OpenFL workspaces, and an environment for them, which is made as a collaborator makes one and stays for the next time."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from fedplane.collaborator.environments import Bounds, Environments
from fedplane.collaborator.frameworks import FRAMEWORKS
from fedplane.runtime.errors import AppFailed

REPOSITORY = Path(__file__).parents[2]
WORKSPACE = REPOSITORY / "examples/03-openfl"
ENVIRONMENTS = REPOSITORY / ".fedplane/environments"
"""Where a collaborator that is started at the top of the tree makes them, too."""

BOUNDS = Bounds(number=8, bytes=50_000_000_000, seconds=600)


def openfl_python() -> Path:
    """The Python of an environment with OpenFL, made now if need be, of half a gigabyte of packages. Without, skip; in CI, fail."""

    async def lent() -> Path:
        environments = Environments(ENVIRONMENTS, Path(sys.executable), os.environ, BOUNDS)
        async with environments.lent(WORKSPACE, "openfl", FRAMEWORKS["openfl"].wanted) as (python, _):
            return python

    try:
        return asyncio.run(lent())
    except AppFailed as failed:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{failed}\n{failed.detail}")
        pytest.skip(str(failed))
