"""The first minute, as a person has it: `fedplane demo`, and Ctrl-C in the middle of it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def test_the_demo_learns_real_digits_and_says_what_happened(tmp_path) -> None:
    state = tmp_path / "demo"
    done = subprocess.run(demo(state), cwd=REPOSITORY, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((state / "summary.json").read_text())

    assert (summary["phase"], summary["rounds"]) == ("Completed", 6)
    assert summary["participants"] == ["amsterdam", "berlin", "copenhagen"]
    assert summary["refused"] == {
        "dublin": {
            "reason": "data",
            "message": "does not advertise the claim mnist.client-data; its value has to say where the data is",
        }
    }
    assert summary["accuracy"] >= 0.93
    assert summary["seconds"] < 90
    assert sum(values.size for values in load_file(summary["model"]).values()) > 10_000
    for said in ("Phases", "Why these clusters", "Rounds", "1,000 digits that nobody trained on", "Try next", summary["model"]):
        assert said in done.stdout
    assert processes_of(state) == []


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
