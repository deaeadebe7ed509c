"""The commands as a person or a script runs them: processes with arguments, streams and exit codes, on a federation with a real server."""

import asyncio
import itertools
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from conftest import NatsServer
from federation_story import federation, learning, model_bytes
from safetensors.numpy import load_file

from fedplane.runtime.nats import Limits, NatsBus, open_bus
from fedplane.schemas.facts import Waiting
from fedplane.schemas.models import Model


@dataclass
class Said:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


class Shell:
    """A place to run `fedplane` in, with a federation's address in its environment."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory = directory
        self._environment = {**os.environ, "FEDPLANE_NATS_URL": url, "FEDPLANE_INSECURE": "true", "TERM": "xterm", "COLUMNS": "100"}

    async def start(self, *arguments: str, out: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fedplane.cli.main", *arguments,
            cwd=self._directory, env=self._environment, stdout=out, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str) -> Said:
        process = await self.start(*arguments)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    def write(self, **spec: object) -> str:
        (self._directory / "pyproject.toml").touch()
        metadata = {"name": "tiny", "annotations": {"fedplane.io/app": "."}}
        document = {**learning(**spec).model_dump(mode="json", by_alias=True), "metadata": metadata}
        (self._directory / "tiny.yaml").write_text(yaml.safe_dump(document))
        return "tiny.yaml"


@pytest_asyncio.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[NatsBus]:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as opened:
        yield opened


@pytest.fixture
def shell(tmp_path: Path, nats_server: NatsServer) -> Shell:
    (tmp_path / "here").mkdir()
    return Shell(tmp_path / "here", nats_server.url)


async def test_a_run_is_submitted_followed_explained_and_its_model_downloaded(bus: NatsBus, shell: Shell, tmp_path: Path) -> None:
    async with federation(bus, tmp_path / "work"):
        submitted = await shell.run("submit", shell.write())
        run = submitted.out.strip()
        watched = await shell.run("watch", "tiny")
        view = json.loads((await shell.run("get", run, "-o", "json")).out)
        views = yaml.safe_load((await shell.run("get", "-o", "yaml")).out)
        table = await shell.run("get")
        explained = await shell.run("explain", run)
        downloaded = await shell.run("model", run, "-o", "tiny.safetensors", "--format", "json")
        facts = await shell.run("events", run, "--from-start", "--structured")
        cancelled = await shell.run("cancel", run)

    assert (submitted.code, submitted.err) == (0, f"scheduled on a, b, c\n`fedplane watch {run}` follows it\n")
    assert (watched.code, watched.out.splitlines()[-1][9:].partition(".")[0]) == (0, "Completed: 2 training rounds done")
    assert (view["run"], view["phase"], view["training_rounds_done"]) == (run, "Completed", 2)
    assert views == [view]
    assert table.out.splitlines()[1].split()[:4] == [run, "Completed", "2/2", "3"]
    assert [line.split()[:2] for line in explained.out.splitlines() if " chosen " in line] == [[name, "chosen"] for name in "abc"]
    assert (table.err, explained.err, facts.err) == ("", "", "")
    written = (tmp_path / "here" / "tiny.safetensors").read_bytes()
    assert written == await model_bytes(bus, Model.model_validate(view["model"]))
    assert json.loads(downloaded.out) == {
        "run": run, "training_round": None, "file": "tiny.safetensors", "bytes": len(written), "digest": view["model"]["digest"],
    }  # fmt: skip
    assert sorted(load_file(tmp_path / "here" / "tiny.safetensors")) == ["b", "w"]
    heard = [json.loads(line) for line in facts.out.splitlines()]
    assert (heard[0]["type"], heard[0]["source"]) == ("io.fedplane.run.submitted.v1", "/fedplane/cli")
    assert (heard[-1]["type"], heard[-1]["source"], heard[-1]["specversion"]) == ("io.fedplane.run.completed.v1", "/test", "1.0")
    assert (cancelled.code, "there is nothing to cancel" in cancelled.err) == (2, True)


async def test_a_run_that_waits_says_for_what_and_can_be_cancelled(bus: NatsBus, shell: Shell, tmp_path: Path) -> None:
    async with federation(bus, tmp_path / "work", clusters=""):
        submitted = await shell.run("submit", shell.write())
        early = await shell.run("model", "tiny", "-o", "model", "--latest")
        cancelled = await shell.run("cancel", "tiny", "--reason", "wrong data", "-o", "yaml")
        again = await shell.run("cancel", "tiny")
        watched = await shell.run("watch", "tiny")

    assert (submitted.code, submitted.err.splitlines()[0]) == (
        0, "waiting: 0 of the 3 clusters that the run needs can take part; refused: none",
    )  # fmt: skip
    assert (early.code, early.err) == (2, f"error: {submitted.out.strip()} is Waiting and has no model yet: no round has been aggregated\n")
    said = yaml.safe_load(cancelled.out)
    assert (said["run"], said["message"], said["before"], cancelled.err) == (submitted.out.strip(), "wrong data", False, "")
    assert (cancelled.code, again.code, "was cancelled before" in again.err) == (0, 0, True)
    assert (watched.code, watched.out[9:]) == (1, "Failed: Cancelled: wrong data\n")


async def test_a_request_that_the_scheduler_refuses_ends_with_its_reason(bus: NatsBus, shell: Shell, tmp_path: Path) -> None:
    async with federation(bus, tmp_path / "work", clusters=""):
        submitted = await shell.run("submit", shell.write(weights={"luck": 1}))
        again = await shell.run("submit", shell.write(weights={"luck": 1}), "-o", "json")

    why = "spec.weights names 'luck'; known criteria are data_locality, cpu, memory, balance, steady"
    assert (submitted.code, submitted.err.splitlines()[0]) == (1, f"failed: BadRequest: {why}")
    said = json.loads(again.out)
    assert (again.code, again.err) == (1, "")
    assert said == {"run": said["run"], "word": "failed", "message": why, "clusters": [], "refused": {}}


async def test_on_a_terminal_watch_draws_a_picture(bus: NatsBus, shell: Shell, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    async with federation(bus, tmp_path / "work"):
        await shell.run("submit", shell.write(), "--no-wait")
        watching = await shell.start("watch", "tiny", out=theirs)
        os.close(theirs)
        drawn = await asyncio.to_thread(_read_to_end, ours)
        code = await watching.wait()

    assert code == 0
    assert "2 of 2 training rounds" in drawn
    assert "\x1b[" in drawn


async def test_an_interrupted_command_ends_at_once(bus: NatsBus, shell: Shell) -> None:
    listening = await shell.start("events")
    assert listening.stdout is not None
    said = asyncio.create_task(listening.stdout.readline())
    async with asyncio.timeout(60):
        for number in itertools.count(1):  # it tells what is stated once it listens, and does not say when it does
            fact = Waiting(run="r-1", at=datetime.now(UTC), number=number, wanted=1, eligible=0, message="nobody", refused=())
            await bus.log.state(fact)
            if (await asyncio.wait([said], timeout=0.1))[0]:
                break
    listening.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        _, err = await listening.communicate()

    assert (listening.returncode, err) == (130, b"")


async def test_without_a_federation_there_is_advice(shell: Shell, tmp_path: Path) -> None:
    nobody = await Shell(tmp_path, "").run("get")
    wrong = await shell.run("get", "--url", "nats://127.0.0.1:1")

    assert (nobody.code, nobody.err.splitlines()[0]) == (3, f"error: no federation is up in {tmp_path / '.fedplane'}")
    assert (wrong.code, wrong.err.splitlines()[1][:36]) == (3, "`fedplane up` starts a federation on")


def _read_to_end(descriptor: int) -> str:
    read = b""
    while True:
        try:
            more = os.read(descriptor, 65536)
        except OSError:  # Linux says so when the other end of a terminal is closed
            more = b""
        if not more:
            os.close(descriptor)
            return read.decode()
        read += more
