"""The first minute, as a person has it: `fedplane demo`, Ctrl-C in the middle of it, and the notebook that judges the model it leaves."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import notebook_story
import pytest
from machine_story import REPOSITORY, app_python
from safetensors.numpy import load_file

pytestmark = pytest.mark.app

FEDPLANE = Path(sys.executable).parent / "fedplane"


@pytest.fixture(autouse=True)
def _environment() -> None:
    app_python()


def demo(state: Path) -> list[str]:
    return [str(FEDPLANE), "demo", "--state", str(state)]


def processes_of(state: Path) -> list[str]:
    return subprocess.run(["pgrep", "-af", str(state)], capture_output=True, text=True, check=False).stdout.splitlines()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A demo that ran to its end where a person runs it, and what it printed."""
    app_python()
    state = tmp_path_factory.mktemp("tree") / ".fedplane/demo"
    return state, subprocess.run(demo(state), cwd=REPOSITORY, capture_output=True, text=True, timeout=180, check=False)


def test_the_demo_learns_real_digits_and_says_what_happened(finished) -> None:
    state, done = finished
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((state / "summary.json").read_text())

    assert (summary["phase"], summary["rounds"]) == ("Completed", 6)
    assert summary["participants"] == ["amsterdam", "berlin", "copenhagen"]
    assert summary["refused"] == {
        "dublin": {
            "reason": "data",
            "message": "does not advertise the claim mnist.client-data; its value says where data is; spec.data.claim may name another",
        }
    }
    assert summary["accuracy"] >= 0.93
    assert summary["seconds"] < 90
    assert sum(values.size for values in load_file(summary["model"]).values()) > 10_000
    for said in ("Phases", "Why these clusters", "Rounds", "1,000 digits that nobody trained on", "Try next", summary["model"]):
        assert said in done.stdout
    assert processes_of(state) == []


def test_the_notebook_finds_in_the_demos_model_what_the_demo_said_of_it(finished) -> None:
    state, _ = finished
    summary = json.loads((state / "summary.json").read_text())

    executed = notebook_story.executed(state.parents[1])

    assert executed.said == [
        f"../../.fedplane/demo/model.safetensors, {(state / 'model.safetensors').stat().st_size:,} bytes\n"
        f"            run  {summary['run']}\ntraining rounds  6\n       clusters  amsterdam, berlin, copenhagen\n"
        f"       accuracy  {summary['accuracy']}\n",
        "55,338 weights in 8 tensors\n",
        f"{summary['accuracy']:.1%} of 1,000 digits are recognised, loss {summary['loss']:.3f}\nas the run reported\n",
    ]
    assert [picture.startswith(b"\x89PNG") and len(picture) > 10_000 for picture in executed.pictures] == [True, True]


@pytest.mark.parametrize("seconds", [0.3, 2.0, 5.0, 8.0])
def test_ctrl_c_at_any_moment_leaves_no_process_behind(tmp_path, seconds) -> None:
    state = tmp_path / "demo"
    child = subprocess.Popen(demo(state), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(seconds)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)

    assert child.returncode == 130, said
    assert "Traceback" not in said
    assert processes_of(state) == []
