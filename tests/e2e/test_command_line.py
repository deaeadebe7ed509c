"""The command line as a person uses it: a federation in the background that lasts, a run on it, and everything one can ask about it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from machine_story import CLUSTERS, resource_yaml, settle_environment
from safetensors.numpy import load_file

pytestmark = pytest.mark.app

FEDPLANE = str(Path(sys.executable).parent / "fedplane")


ENDING_SECONDS = 20
"""`down` returns when the federation has ended; the last interpreter may need a moment more to go."""


class Shell:
    """`fedplane ...` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run([FEDPLANE, *arguments], cwd=self.directory, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def up(self) -> None:
        self("up", "--detach", "--clusters", "clusters.yaml", "--port", "0")

    def pid(self) -> int:
        return int(json.loads((self.directory / ".fedplane" / "up.json").read_text())["pid"])

    def view(self, run: str) -> dict:
        return json.loads(self("get", run, "-o", "json"))

    def until(self, run: str, true, seconds: float = 60) -> dict:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            view = self.view(run)
            if true(view):
                return view
            time.sleep(0.3)  # each look is a program that has to be loaded
        raise AssertionError(view)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    settle_environment(monkeypatch)
    offered = [{"name": name, "claims": {"data": "/data"}, "allocatable": {"cpu": "1", "memory": "1Gi"}} for name in CLUSTERS]
    (tmp_path / "clusters.yaml").write_text(yaml.safe_dump({"clusters": offered}))
    (tmp_path / "tiny.yaml").write_text(resource_yaml())
    (tmp_path / "slow.yaml").write_text(resource_yaml("slow", config={"seconds": 2.0}))
    (tmp_path / "magic.yaml").write_text(resource_yaml("magic", strategy={"name": "fedmagic"}))
    (tmp_path / "many.yaml").write_text(resource_yaml("many", server={"minAvailableClients": 9}))
    shell = Shell(tmp_path)
    yield shell
    shell("down")
    give_up = time.monotonic() + ENDING_SECONDS
    while (left := processes_of(tmp_path)) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert left == ""


def processes_of(directory: Path) -> str:
    return subprocess.run(["pgrep", "-af", str(directory)], capture_output=True, text=True, check=False).stdout


def test_everything_one_can_ask_about_a_run(shell: Shell) -> None:
    shell.up()
    submitted = shell("submit", "tiny.yaml")
    assert "fedplane watch tiny-" in submitted
    assert "Completed: 2 training rounds done." in shell("watch", "tiny")
    view = shell.view("tiny")

    assert (view["phase"], [cluster["cluster"] for cluster in view["participants"]]) == ("Completed", list(CLUSTERS))
    assert shell("explain", "tiny").count("chosen") == len(CLUSTERS)
    assert [line.split()[:2] for line in shell("clusters").splitlines()[1:]] == [[name, "ready"] for name in CLUSTERS]
    found = json.loads(shell("doctor", "-o", "json"))
    assert {each["area"] for each in found} == {"machine", "bus", "access", "roles"}
    assert [each for each in found if each["level"] == "problem"] == []
    facts = shell("events", "tiny", "--from-start").splitlines()
    assert "submitted" in facts[0]
    assert "completed" in facts[-1]
    events = [json.loads(line) for line in shell("events", "tiny", "--from-start", "--structured").splitlines()]
    assert (events[0]["specversion"], events[0]["type"]) == ("1.0", "io.fedplane.run.submitted.v1")
    shell("model", "tiny", "-o", "tiny.safetensors")
    assert [values.shape for values in load_file(shell.directory / "tiny.safetensors").values()] == [(250_000,), (3, 5)]
    assert "is not stored; those of 2 are" in shell("keep", "tiny", "--round", "1", "--to", "kept", code=2)
    assert not (shell.directory / "kept").exists()
    assert "there is nothing to cancel" in shell("cancel", "tiny", code=2)


def test_a_federation_whose_keeper_is_killed_goes_on_when_it_is_started_again(shell: Shell) -> None:
    shell.up()
    shell("submit", "slow.yaml")
    shell.until("slow", lambda view: view["task"] == "train")
    os.kill(shell.pid(), signal.SIGKILL)
    assert "fedplane up" in shell("get", code=3)
    assert "starts it, and goes on where it was" in shell("doctor", code=1)
    shell.up()

    assert "Completed" in shell("watch", "slow")
    view = shell.view("slow")
    assert [(of["round"], of["task"], of["state"]) for of in view["rounds"]][:2] == [
        (0, "initialize", "Aggregated"),
        (1, "train", "Aggregated"),
    ]


def test_what_cannot_be_done_is_said_with_the_mend_and_the_exit_code(shell: Shell) -> None:
    shell.up()
    (shell.directory / "pod.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n")
    (shell.directory / "typo.yaml").write_text(resource_yaml(serverr={}))
    (shell.directory / "lost.yaml").write_text(resource_yaml(app=Path("nowhere")))
    (shell.directory / "frame.yaml").write_text(resource_yaml(framework="flour"))

    assert "found apiVersion v1 and kind Pod" in shell("submit", "pod.yaml", code=2)
    assert "spec.serverr: is not a field of this resource" in shell("submit", "typo.yaml", code=2)
    assert "nowhere" in shell("submit", "lost.yaml", code=2)
    assert "known are flower, openfl, other, torch, sklearn, xgboost" in shell("submit", "frame.yaml", code=2)
    assert "there is no strategy 'fedmagic'; known are " in shell("submit", "magic.yaml", code=1)
    assert "3 of the 9 clusters" in shell("submit", "many.yaml")
    assert "already up" in shell("up", code=4)
    shell("submit", "slow.yaml")
    shell("cancel", "slow", "--reason", "wrong data")
    assert "wrong data" in shell("watch", "slow", code=1)
    assert "there is no run 'none'" in shell("get", "none", code=2)
