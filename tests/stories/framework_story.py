"""One small app per framework, all doing what `behave` in a run's configuration says, and a real runner that is asked by files.

Every app makes a tensor `weight` of six zeros, or `coef_` of three, and others of the kinds that its framework has; or no trees yet.
Its training adds what chance gives, so that two processes agree only if chance is seeded.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedplane.collaborator.apps import AppProcess
from fedplane.collaborator.children import RUNNER, App, child_of
from fedplane.runtime.errors import AppFailed
from fedplane.schemas.layout import Layout, parse_header

APPS = Path(__file__).parents[1] / "apps/conform"
PATIENCE_SECONDS = 120
"""For importing torch on a busy machine."""


@dataclass(frozen=True)
class Case:
    """An app of a framework, where to run it, and the dtypes of its model."""

    framework: str
    app: Path
    python: Path
    kinds: frozenset[str]
    runner: Path = RUNNER
    settings: str = ""
    """What the names of the run's settings begin with."""
    appends: bool = False
    """Whether updates are appended to the model, so that an update has a layout of its own."""


@dataclass
class Asking:
    """An app's process, and a place for the requests to it."""

    app: AppProcess
    home: Path
    settings: str = ""
    appends: bool = False
    asked: int = 0

    def request(self, task: str, model: Path | None = None, *, training_round: int = 3, data: str = "/data", **said: Any) -> Path:
        self.asked += 1
        directory = self.home / f"request-{self.asked}"
        directory.mkdir()
        invitation = {
            "task": task, "run": "conform-1a2b3c4d", "round": 5, "training_round": training_round,
            "cluster": "berlin", "position": 1, "clusters": 3,
            "data": data, "configuration": {}, "run_configuration": {f"{self.settings}{name}": value for name, value in said.items()},
        }  # fmt: skip
        if self.appends:
            invitation["appends"] = True
        (directory / "invitation.json").write_text(json.dumps(invitation))
        if model:
            (directory / "model.safetensors").hardlink_to(model)
        return directory

    async def failure(self, asked: Path, deadline_seconds: float = PATIENCE_SECONDS) -> tuple[str, str]:
        with pytest.raises(AppFailed) as failed:
            await self.app.ask(asked, deadline_seconds)
        return failed.value.reason, str(failed.value)

    async def first_model(self) -> Path:
        asked = self.request("initialize")
        await self.app.ask(asked, PATIENCE_SECONDS)
        return asked / "update.safetensors"

    async def trained(self, model: Path) -> bytes:
        asked = self.request("train", model)
        await self.app.ask(asked, PATIENCE_SECONDS)
        return (asked / "update.safetensors").read_bytes()


@asynccontextmanager
async def asking(case: Case, home: Path) -> AsyncIterator[Asking]:
    held = started(case, home)
    try:
        yield Asking(held, home, case.settings, case.appends)
    finally:
        await held.close()


def started(case: Case, home: Path) -> AppProcess:
    home.mkdir(exist_ok=True)
    app = App(case.app, case.framework, case.python)
    return AppProcess(child_of(app, home, os.environ, runner=case.runner), home / "app.log")


def header_of(file: Path) -> bytes:
    content = file.read_bytes()
    return content[: 8 + int.from_bytes(content[:8], "little")]


def layout_of(file: Path) -> Layout:
    return parse_header(header_of(file))
