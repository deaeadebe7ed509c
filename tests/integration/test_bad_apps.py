"""Real Flower apps that misbehave on one cluster: the reason is on the log, the others go on, and no process is left behind."""

import subprocess
from pathlib import Path

import pytest
from machine_story import TINY_APP, machine, settle_environment

from fedplane.schemas.facts import Aggregated, Completed, Declined, Failed
from fedplane.schemas.models import Task

pytestmark = pytest.mark.app


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_environment(monkeypatch)


TROUBLES = {
    "raise": ("app-raised", "the data has a column too few"),
    "NaN": ("not-finite", "not a number"),
    "shapes": ("wrong-layout", "float32[249999] and was float32[250000]"),
    "exit": ("crashed", "7"),
    "hang": ("timed-out", "give its rounds more time"),
}


def processes_of(directory: Path) -> list[str]:
    return subprocess.run(["pgrep", "-f", str(directory)], capture_output=True, text=True, check=False).stdout.split()


async def test_what_goes_wrong_on_one_cluster_is_said_and_the_others_go_on(tmp_path) -> None:
    async with machine(tmp_path) as it:
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
        assert processes_of(tmp_path) != []
    assert processes_of(tmp_path) == []


async def test_an_app_that_cannot_be_loaded_fails_the_run_with_the_file_and_the_mend(tmp_path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    text = (TINY_APP / "pyproject.toml").read_text().replace("tiny_app.client:app", "tiny_app.nowhere:app")
    (broken / "pyproject.toml").write_text(text)
    async with machine(tmp_path / "machine") as it:
        run = await it.submit(app=broken, rounds={"attempts": 1})
        failed = await it.end_of(run)

    assert isinstance(failed, Failed)
    assert "load-failed" in failed.message
    assert "tiny_app.nowhere" in failed.message
