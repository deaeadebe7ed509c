"""Every benchmark runs and says what was promised about it: a program that nobody runs is found broken on the day of a release."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from machine_story import REPOSITORY, app_python

BENCHMARKS = REPOSITORY / "benchmarks"
OURS_ALONE = ("control", "events", "telemetry", "security", "plane", "replicas", "limited", "placement")
WITH_FLOWER = ("frameworks", "fold", "robust", "privacy")
ON_A_HUB = ("apply",)
SMOKE_SECONDS = 240
"""The longest starts four federations, one after the other: 40 s on a machine of its own, and several times that beside other tests."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


def report_of(name: str, reports: Path) -> Path:
    """The file with what the benchmark said. It is run once, whoever asks."""
    file = reports / f"{name}.json"
    if not file.exists():
        done = subprocess.run(
            [sys.executable, BENCHMARKS / f"{name}.py", "--smoke", "--json", file],
            capture_output=True, text=True, timeout=SMOKE_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "left out: " in done.stdout
    return file


def insist_on_bars(file: Path) -> None:
    """Whether a bar of speed or memory is met says nothing here: the case is the smallest there is, and others use the machine.

    Weights are the same on the smallest case, too.
    """
    report: dict[str, Any] = json.loads(file.read_text())
    assert report["extent"] == "smoke"
    assert report["tables"]
    assert report["bars"]
    for name, bar in report["bars"].items():
        assert set(bar) == {"value", "bar", "must_be", "ok"}, name
        assert bar["ok"] == (bar["value"] >= bar["bar"] if bar["must_be"] == "at least" else bar["value"] <= bar["bar"]), name
        assert bar["ok"] or not name.startswith("weights apart"), (name, bar)


@pytest.mark.parametrize("name", OURS_ALONE)
def test_a_benchmark_runs_and_reports_its_bars(reports: Path, name: str) -> None:
    insist_on_bars(report_of(name, reports))


@pytest.mark.parametrize("name", ON_A_HUB)
def test_a_benchmark_on_a_hub_runs_and_reports_its_bars(reports: Path, name: str) -> None:
    if missing := {"KUBEBUILDER_ASSETS", "OCM_CRDS"} - os.environ.keys():
        pytest.skip(f"{' and '.join(sorted(missing))} name no folders; see CONTRIBUTING.md")

    insist_on_bars(report_of(name, reports))


@pytest.mark.app
@pytest.mark.parametrize("name", WITH_FLOWER)
def test_a_benchmark_beside_flower_runs_and_reports_its_bars(reports: Path, name: str) -> None:
    app_python()

    insist_on_bars(report_of(name, reports))


def test_the_page_shows_every_report_that_is_there_and_names_those_that_are_not(reports: Path, tmp_path: Path) -> None:
    shutil.copy(report_of("limited", reports), tmp_path)
    target = tmp_path / "performance.md"
    subprocess.run([sys.executable, BENCHMARKS / "page.py", tmp_path, target], check=True)
    text = target.read_text()

    assert text.count("No report of it is there.") == len(OURS_ALONE + WITH_FLOWER + ON_A_HUB) - 1
    assert "A smoke run of " in text
    assert re.search(r"^\| limited: resident at most, 1 MB, 2 clusters, MB \| \d+ \| at most 512 \| met \|$", text, re.MULTILINE)


def test_make_runs_every_benchmark_that_the_page_shows() -> None:
    made = re.search(r"^BENCHMARKS = (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)

    assert made is not None
    with_a_hub = re.sub(r"\$\(if \$\(KUBEBUILDER_ASSETS\),(\w+)\)", r"\1", made[1])
    assert sorted(with_a_hub.split()) == sorted(OURS_ALONE + WITH_FLOWER + ON_A_HUB)
