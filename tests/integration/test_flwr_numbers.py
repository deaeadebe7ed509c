"""The numbers that our strategies are compared with are those of the Flower that is installed."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from machine_story import app_python

GOLDEN = Path(__file__).parents[1] / "golden"
PATIENCE_SECONDS = 120
"""For importing flwr on a busy machine."""

pytestmark = pytest.mark.app


def test_flower_computes_what_the_committed_file_says() -> None:
    run = subprocess.run([app_python(), GOLDEN / "flwr_strategies.py"], capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    now, then = json.loads(run.stdout), json.loads((GOLDEN / "flwr_strategies.json").read_text())
    strategies = now.keys() - {"model", "rounds"}

    assert now.keys() == then.keys()
    assert (now["model"], now["rounds"]) == (then["model"], then["rounds"])
    assert {name: now[name]["told"] for name in strategies} == {name: then[name]["told"] for name in strategies}
    for name in sorted(strategies):  # float32, and a processor's own rounding of powers
        assert np.array(now[name]["models"]) == pytest.approx(np.array(then[name]["models"]), rel=1e-6, abs=1e-7), name
