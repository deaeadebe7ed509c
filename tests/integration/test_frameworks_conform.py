"""What every framework's adapter has to do, whatever the framework: one suite, passed by each line of the table.

An app of the framework is told to do well, or what apps should not do; see `framework_story`.
How a process is started, watched and killed is tested with a framework that is none, in `test_app_processes`.
"""

import ast
import asyncio
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from framework_story import APPS, PATIENCE_SECONDS, Case, asking, header_of, layout_of
from machine_story import app_python
from openfl_story import openfl_python

from fedplane.collaborator.apps import Answer
from fedplane.collaborator.children import RUNNER, plain_python
from fedplane.collaborator.frameworks import FRAMEWORKS

pytestmark = pytest.mark.app

KINDS = {
    "flower": {"F64", "F32", "F16", "I64", "U8", "BOOL"},
    "torch": {"F64", "F32", "F16", "BF16", "I64", "U8", "BOOL"},
    "sklearn": {"F64"},
    "xgboost": {"U8"},
    "other": {"F64", "F32", "F16", "I64", "U8", "BOOL"},
    "openfl": {"F64", "F32", "F16", "I64", "U8"},
}
"""The frameworks, each with the dtypes that its app has, all of which must come back as they went."""

SETTINGS = {"openfl": "tasks.train.kwargs."}
"""What the names of a run's settings begin with, where they are places in a file."""

APPENDS = {"xgboost": "base_score is 0.25, and was 0.5"}
"""The frameworks whose updates are appended to the model, so that one is as large as it likes.
Instead of another shape, an app that goes wrong there gives the model another meaning, and is told which.
"""

PYTHONS = {"openfl": openfl_python}
"""Whose environment is not the example's."""

GONE_SECONDS = 10.0
"""A killed process is gone in milliseconds, or a few tenths of a second on a machine that has no time for it."""

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-framework.md"
NEWCOMER = "the one that the page adds"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST_LINE = '    "flower": Framework('


@pytest.fixture(params=[*KINDS, NEWCOMER])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """The framework's app, at a place of its own, by which its processes can be told."""
    if request.param == NEWCOMER:
        return newcomer(tmp_path)
    name, app = request.param, shutil.copytree(APPS / request.param, tmp_path / "app")
    python = plain_python() if FRAMEWORKS[name].by_files else PYTHONS.get(name, app_python)()
    return Case(name, app, python, frozenset(KINDS[name]), settings=SETTINGS.get(name, ""), appends=name in APPENDS)


def newcomer(directory: Path) -> Case:
    """What the page tells a person to write, in a copy of the runner."""
    adapter, line, app, kinds = BLOCK.findall(PAGE.read_text())
    runner = shutil.copytree(RUNNER, directory / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    (runner / "arrays.py").write_text(adapter)
    table = (runner / "__init__.py").read_text()
    (runner / "__init__.py").write_text(table.replace(FIRST_LINE, f"{line}{FIRST_LINE}"))
    (directory / "app").mkdir()
    (directory / "app/federated.py").write_text(app)
    return Case("arrays", directory / "app", Path(sys.executable), frozenset(ast.literal_eval(f"{{{kinds}}}")["arrays"]), runner)


def test_every_framework_of_the_table_is_in_this_suite() -> None:
    assert set(KINDS) == set(FRAMEWORKS)


async def test_an_app_does_its_work_and_is_told_what_it_did_wrong(case: Case, tmp_path: Path) -> None:
    async with asking(case, tmp_path / "home") as it:
        model = await it.first_model()
        asked = it.request("train", model)
        trained = await it.app.ask(asked, PATIENCE_SECONDS)
        measuring = it.request("evaluate", model)
        measured = await it.app.ask(measuring, PATIENCE_SECONDS)
        misdeeds = ("raise", "diverge", "reshape", "forget")
        failures = {behave: await it.failure(it.request("train", model, behave=behave)) for behave in misdeeds}
        again = await it.trained(model)

    assert {tensor.dtype for tensor in layout_of(model).tensors} == case.kinds
    assert trained == Answer(weight=4, metrics={"round": 3})
    assert measured == Answer(weight=4, metrics={"data": 1, "sum": 0})
    assert not (measuring / "update.safetensors").exists()
    if case.appends:
        assert kinds_of(asked / "update.safetensors") == kinds_of(model) and header_of(asked / "update.safetensors") != header_of(model)
    else:
        assert header_of(asked / "update.safetensors") == header_of(model)
    assert (asked / "update.safetensors").read_bytes() == again != model.read_bytes()
    assert {behave: reason for behave, (reason, _) in failures.items()} == {
        "raise": "app-raised", "diverge": "not-finite", "reshape": "wrong-layout", "forget": "no-weight",
    }  # fmt: skip
    told = (APPENDS[case.framework],) if case.appends else ("[3, 2]", "[3, 1]")
    assert any(words in failures["reshape"][1] for words in told), failures["reshape"]
    assert "num-examples" in failures["forget"][1]


async def test_an_app_that_died_or_was_stopped_goes_on_in_a_fresh_process_to_the_same_bits(case: Case, tmp_path: Path) -> None:
    async with asking(case, tmp_path / "home") as it:
        model = await it.first_model()
        calm = await it.trained(model)
        hung = await it.failure(it.request("train", model, behave="hang"), deadline_seconds=0.5)
        died = await it.failure(it.request("train", model, behave="die"))
        after = await it.trained(model)
        unwanted = asyncio.create_task(it.app.ask(it.request("train", model, behave="hang"), PATIENCE_SECONDS))
        await asyncio.sleep(0.5)
        at_work = processes_of(case.app)
        unwanted.cancel()
        await asyncio.wait([unwanted])
        async with asyncio.timeout(GONE_SECONDS):
            while left := processes_of(case.app):  # whoever is killed is listed until the kernel has come to it
                await asyncio.sleep(0.02)

    assert (hung[0], died[0], unwanted.cancelled()) == ("timed-out", "crashed", True)
    assert "SIGKILL" in died[1]
    assert after == calm
    assert at_work and not left


def kinds_of(file: Path) -> list[tuple[str, str]]:
    return [(tensor.name, tensor.dtype) for tensor in layout_of(file).tensors]


def processes_of(directory: Path) -> str:
    """Those that were given a path below the directory."""
    return subprocess.run(["pgrep", "-af", str(directory)], capture_output=True, text=True, check=False).stdout


async def test_a_directory_without_an_app_is_named(case: Case, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    async with asking(replace(case, app=empty), tmp_path / "home") as it:
        reason, message = await it.failure(it.request("initialize"))

    assert reason == "load-failed"
    assert str(empty) in message
