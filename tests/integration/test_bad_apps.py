"""Real Flower apps that misbehave on one cluster: the reason is on the log, the others go on, and no process is left behind."""

import shutil
import subprocess
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from machine_story import TINY_APP, Lend, Machine, lasting_machine

from fedplane.schemas.facts import Aggregated, Completed, Declined, Failed, Opened
from fedplane.schemas.models import Task

pytestmark = [pytest.mark.app, pytest.mark.asyncio(loop_scope="module")]


TROUBLES = {
    "raise": ("app-raised", "the data has a column too few"),
    "NaN": ("not-finite", "not a number"),
    "shapes": ("wrong-layout", "float32[249999] and was float32[250000]"),
    "exit": ("crashed", "7"),
    "hang": ("timed-out", "give its rounds more time"),
}


def processes_of(directory: Path) -> list[str]:
    return subprocess.run(["pgrep", "-f", str(directory)], capture_output=True, text=True, check=False).stdout.split()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lend]:
    directory = tmp_path_factory.mktemp("machine")
    async with lasting_machine(directory) as lend:
        yield lend
        assert processes_of(directory) != []
    assert processes_of(directory) == []


@pytest_asyncio.fixture(loop_scope="module")
async def it(lend: Lend, tmp_path: Path) -> Machine:
    return await lend(tmp_path)


async def test_what_goes_wrong_on_one_cluster_is_said_and_the_others_go_on(it: Machine) -> None:
    for trouble, (reason, words) in TROUBLES.items():
        run = await it.submit(
            server={"rounds": 1, "minAvailableClients": 2},
            rounds={"deadlineSeconds": 6, "evaluate": False},
            config={"trouble": f"{trouble} at beta"},
        )
        end = await it.end_of(run)
        declined = [record.fact for record in it.log if isinstance(record.fact, Declined)]
        trained = [r.fact.members for r in it.log if isinstance(r.fact, Aggregated) and r.fact.task is Task.TRAIN]

        assert isinstance(end, Completed), (trouble, end)
        assert trained == [("alpha", "gamma")], trouble
        assert [(fact.cluster, fact.reason) for fact in declined] == [("beta", reason)], trouble
        assert words in declined[0].message + declined[0].detail


def wrong_apps(directory: Path) -> dict[str, tuple[Path, str]]:
    """The tiny app with one thing wrong, and what is said of it."""
    apps = {name: shutil.copytree(TINY_APP, directory / name) for name in ("component", "dependency", "Python")}
    projects = {name: app / "pyproject.toml" for name, app in apps.items()}
    text = projects["component"].read_text()
    projects["component"].write_text(text.replace("tiny_app.client:app", "tiny_app.client:nobody"))
    (apps["dependency"] / "tiny_app/__init__.py").write_text("import magic")
    projects["Python"].write_text(text.replace("[project]", '[project]\nrequires-python = ">=4"'))
    bundle = directory / "bad.fab"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("../evil.py", "")
    return {
        "component": (
            apps["component"],
            f"clientapp 'tiny_app.client:nobody' of {projects['component']} cannot be loaded: "
            "there is no such component in 'tiny_app.client'; mend the name, or the module",
        ),
        "dependency": (
            apps["dependency"],
            f"clientapp 'tiny_app.client:app' of {projects['dependency']} cannot be loaded: ModuleNotFoundError: No module named 'magic'; "
            "add the package that has it to the dependencies in that file, and to the app's environment if it brings one",
        ),
        "Python": (apps["Python"], f"{projects['Python']} requires Python >=4, and "),
        "bundle": (
            bundle,
            f"the bundle {bundle} cannot be used: the path '../evil.py' leads out of it; make it again with `fedplane bundle`",
        ),
    }


async def test_an_app_that_cannot_be_used_fails_the_run_before_training_with_the_file_and_the_mend(it: Machine, tmp_path: Path) -> None:
    for wrong, (app, said) in wrong_apps(tmp_path).items():
        failed = await it.end_of(await it.submit(app=app, rounds={"attempts": 1}))
        asked = {record.fact.task for record in it.log if isinstance(record.fact, Opened)}
        told = {record.fact.message for record in it.log if isinstance(record.fact, Declined)}

        assert isinstance(failed, Failed), wrong
        assert asked == {Task.INITIALIZE}, wrong
        assert len(told) == 1 and said in told.pop(), (wrong, told)
        assert said[:100] in failed.message, (wrong, failed.message)
