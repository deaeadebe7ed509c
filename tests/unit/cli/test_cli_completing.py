"""The tab key: the runs that a word may become, and silence when they cannot be known."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from view_story import NOON, view_after

from fedplane.cli import completing, main
from fedplane.cli.completing import WORDS_MAX, AnyRun, RunName, beginning
from fedplane.schemas import facts
from fedplane.schemas.views import RunView

GROUP: Any = get_command(main.app)


def run(name: str, minute: int = 0) -> RunView:
    return view_after(facts.Opened).model_copy(update={"run": name, "submitted_at": NOON + timedelta(minutes=minute)})


def test_a_word_may_become_the_runs_that_begin_with_it_the_latest_first() -> None:
    views = [run("mnist-aaaa1111", 1), run("cifar-bbbb2222", 2), run("mnist-cccc3333", 3)]

    assert beginning("mni", views) == [
        ("mnist-cccc3333", "Running, 0 of 3 training rounds"),
        ("mnist-aaaa1111", "Running, 0 of 3 training rounds"),
    ]
    assert beginning("x", views) == []


def test_no_more_is_offered_than_a_screen_takes() -> None:
    assert len(beginning("", [run(f"mnist-{number:08}") for number in range(WORDS_MAX + 1)])) == WORDS_MAX


def test_every_command_that_takes_a_run_can_complete_it() -> None:
    functions = [function for under in main.COMMANDS.values() for function in under]
    completed = {function.__name__ for function in functions if function.__annotations__.get("run") in (AnyRun, RunName)}

    assert completed == {"get", "watch", "explain", "cancel", "events", "model", "keep"}


@pytest.mark.parametrize("url", ["nats://127.0.0.1:1", "http://nonsense", None])
def test_without_a_bus_nothing_is_completed(url: str | None, tmp_path: Path) -> None:
    context = GROUP.commands["watch"].make_context("watch", ["any"])
    context.params = {"url": url, "state": tmp_path}

    assert completing._complete(context, "") == []
