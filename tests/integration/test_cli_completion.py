"""The tab key on a real bus, and in a real process without one: words, or silence."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import NatsServer
from typer.main import get_command
from view_story import RUN, view_after

from fedplane.cli import completing, main
from fedplane.runtime.nats import Limits, open_bus
from fedplane.runtime.ports import Viewed
from fedplane.schemas import facts

GROUP: Any = get_command(main.app)


def test_runs_are_asked_of_the_bus_that_the_line_names(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "COMPLETION_SECONDS", 30.0)  # a busy machine is slow, not wrong
    view = view_after(facts.Opened)

    async def shown() -> None:
        async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
            await bus.views.put(Viewed(view.run, view.model_dump_json().encode(), view.sequence))

    asyncio.run(shown())
    context = GROUP.commands["watch"].make_context("watch", ["--url", nats_server.url, "any"])

    assert completing._complete(context, "mni") == [(RUN, "Running, 0 of 3 training rounds")]
    assert completing._complete(context, "x") == []


def test_a_shell_without_a_bus_hears_nothing(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "fedplane watch --url nats://127.0.0.1:1 m", "COMP_CWORD": "4", "_FEDPLANE_COMPLETE": "complete_bash"}

    done = subprocess.run(
        [sys.executable, "-m", "fedplane.cli.main"],
        cwd=tmp_path, env={**os.environ, **words}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
