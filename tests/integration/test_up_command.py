"""`fedplane up` and `fedplane down` as a person types them, with the real services."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedplane.cli.directory import Directory

MARK = "FEDPLANE_TEST_MARK"
UNAVAILABLE, BAD_INPUT = 4, 2


class Terminal:
    """Runs commands whose processes, and all that descend from them, can be told from all others by a variable in their environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"{MARK}={folder}".encode()

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "fedplane.cli.main", *arguments],
            cwd=self.folder,
            env={**os.environ, MARK: str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        command = self.start(*arguments)
        output, _ = command.communicate(timeout=20)
        return command.returncode, output

    def processes(self) -> list[int]:
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    environment = (path / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue  # gone, or not ours to read
                found += [int(path.name)] if self.mark in environment else []
        return found


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    for pid in terminal.processes():
        os.kill(pid, signal.SIGKILL)


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def _wait_until_gone(terminal: Terminal) -> None:
    deadline = time.monotonic() + 2  # the last one has said goodbye and only has to leave
    while left := terminal.processes():
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.01)


def test_up_runs_everything_until_ctrl_c_and_leaves_the_state_and_no_process(terminal: Terminal, tmp_path: Path):
    (tmp_path / "clusters.yaml").write_text("clusters: [{name: a}]")
    up = terminal.start("up", "--port", "0", "--aggregators", "1", "--clusters", "clusters.yaml")
    assert up.stdout is not None
    said = ""
    while "`fedplane submit FILE` asks for a run; Ctrl-C ends the federation." not in said:
        said += up.stdout.readline()
    record = Directory.at(tmp_path / ".fedplane").read_record()
    assert record is not None
    assert list(record.processes) == ["nats-server", "authorizer", "scheduler", "aggregator-0", "status", "driver", "collaborator-a"]
    assert sorted([*record.processes.values(), up.pid]) == sorted(terminal.processes())
    told = Path(f"/proc/{record.processes['nats-server']}/environ").read_bytes().split(b"\0")
    assert b"GOMEMLIMIT=210MiB" in told, "or it caches its store until the machine has no memory left"
    assert f"The bus is at {record.nats_url}" in said
    assert (record.nats_url[:6], record.insecure, record.credentials) == ("tls://", False, tmp_path / ".fedplane/keys/cli.pem")
    assert "Clusters: a." in said
    assert f"Runs can be watched at {record.page_url}" in said

    os.killpg(up.pid, signal.SIGINT)
    output, _ = up.communicate(timeout=20)

    assert up.returncode == 0
    ended = [line.split()[1].rstrip(":") for line in output.splitlines() if line.endswith(": ended")]
    assert set(ended[:2]) == {"collaborator-a", "driver"}
    assert set(ended[2:5]) == {"scheduler", "aggregator-0", "status"}
    assert ended[5:] == ["authorizer", "nats-server"]
    assert sorted(path.name for path in (tmp_path / ".fedplane").iterdir()) == [
        "clusters.yaml", "keys", "logs", "nats", "nats-server.conf", "servers", "up.lock", "work",
    ]  # fmt: skip
    assert (tmp_path / ".fedplane/nats-server.conf").stat().st_mode & 0o777 == 0o600, "it has passwords"
    _wait_until_gone(terminal)


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_ctrl_c_during_the_start_leaves_no_process_behind(terminal: Terminal, lines: int):
    up = terminal.start("up", "--port", "0", "--aggregators", "1")
    assert up.stdout is not None
    for _ in range(lines):
        assert "started" in up.stdout.readline()

    os.killpg(up.pid, signal.SIGINT)
    up.communicate(timeout=20)

    _wait_until_gone(terminal)


def test_detached_it_is_up_when_the_command_returns_is_not_started_twice_and_ends_with_down(terminal: Terminal, tmp_path: Path):
    state = tmp_path / "state"
    returncode, output = terminal.run("up", "--detach", "--insecure", "--state", str(state), "--port", "0", "--aggregators", "1")
    record = Directory.at(state).read_record()
    assert record is not None
    assert (returncode, record.ready, record.insecure, record.credentials) == (0, True, True, None)
    assert output.splitlines() == [
        f"The bus is at {record.nats_url}; pid {record.pid}; logs in {state}/logs.",
        f"Runs can be watched at {record.page_url}",
        "It asks for no certificates: every program of this machine may read, state and remove everything.",
        f"`fedplane submit FILE --state {state}` asks for a run; `fedplane down --state {state}` ends the federation.",
    ]

    for detach in ([], ["--detach"]):
        returncode, output = terminal.run("up", "--state", str(state), *detach)
        assert returncode == UNAVAILABLE
        assert f"already up, pid {record.pid}, at {record.nats_url}; `fedplane down --state {state}` ends it" in output

    assert terminal.run("down", "--state", str(state)) == (0, f"Ended, pid {record.pid}. The state stays in {state}.\n")
    assert Directory.at(state).read_record() is None
    _wait_until_gone(terminal)
    assert terminal.run("down", "--state", str(state)) == (0, f"Nothing is up in {state}.\n")


def test_a_record_of_a_killed_federation_does_not_make_down_end_whoever_has_its_pid_now(terminal: Terminal, tmp_path: Path):
    directory = Directory.at(tmp_path / ".fedplane")
    directory.make()
    with subprocess.Popen(["sleep", "60"]) as innocent:
        directory.write(
            directory.record,
            f'{{"pid": {innocent.pid}, "nats_url": "nats://x", "started_at": "2026-01-01T00:00:00Z", "ready": true, "processes": {{}}}}',
        )

        assert terminal.run("down") == (0, f"Nothing is up in {directory.path}.\n")
        assert innocent.poll() is None
        innocent.kill()


def test_what_goes_wrong_in_the_background_is_said_in_the_foreground(terminal: Terminal, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        returncode, output = terminal.run("up", "--detach", "--port", str(port))
    assert returncode == UNAVAILABLE
    assert f"port {port} of this machine is in use by another program; choose another with `--port N`" in output

    (tmp_path / "clusters.yaml").write_text("clusters: [{name: Hospital}]")
    returncode, output = terminal.run("up", "--detach", "--clusters", "clusters.yaml", "--port", "0")
    assert returncode == BAD_INPUT
    assert "entry 1 (Hospital): name: " in output

    returncode, output = terminal.run("up", "--store-bytes", "much")
    assert returncode == BAD_INPUT
    assert "--store-bytes: 'much' is no Kubernetes quantity" in output
    _wait_until_gone(terminal)
