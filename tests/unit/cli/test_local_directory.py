"""Whose a state directory is, and what is remembered in it."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedplane.cli.directory import Directory, Record
from fedplane.cli.logs import Logs
from fedplane.cli.orphans import command_line, end_orphans
from fedplane.runtime.errors import Unavailable

RECORD = Record(
    pid=17, nats_url="nats://127.0.0.1:4300", started_at=datetime(2026, 1, 1, tzinfo=UTC), ready=True, processes={"scheduler": 18}
)


def test_a_directory_is_held_by_one_process_at_a_time_which_others_can_tell(tmp_path: Path):
    directory = Directory.at(tmp_path / "state")
    assert directory.holder() is None

    with directory.held():
        directory.write_record(RECORD)
        assert directory.holder() == os.getpid()
        with pytest.raises(Unavailable) as refused, directory.held():
            pytest.fail("it was held twice")

    assert str(refused.value) == (
        f"already up, pid {os.getpid()}, at nats://127.0.0.1:4300; `fedplane down --state {directory.path}` ends it"
    )
    assert directory.holder() is None
    with directory.held():
        assert directory.holder() == os.getpid()


def test_what_is_in_the_folders_is_not_for_others_on_the_machine_whoever_made_them(tmp_path: Path):
    directory = Directory.at(tmp_path / "state")
    directory.logs.mkdir(parents=True, mode=0o755)

    with directory.held():
        folders = (directory.store, directory.logs, directory.work, directory.servers)

    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * len(folders)


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path):
    hold = (
        "import sys, pathlib, time; from fedplane.cli.directory import Directory\n"
        "with Directory(pathlib.Path(sys.argv[1])).held(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert Directory(tmp_path).holder() == holder.pid
        holder.kill()

    assert Directory(tmp_path).holder() is None


def test_a_directory_that_cannot_be_made_is_refused_with_the_way_out(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match=r"cannot write to .*file/state: Not a directory; choose another directory with --state"):
        Directory.at(tmp_path / "file" / "state").make()


def test_a_command_needs_no_option_to_mean_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    assert Directory.at(Path(".fedplane")).command("down") == "fedplane down"
    assert Directory.at(Path("my state")).command("submit FILE") == f"fedplane submit FILE --state '{tmp_path}/my state'"


def test_a_record_is_read_as_it_was_written_and_one_that_nobody_can_read_is_none(tmp_path: Path):
    directory = Directory.at(tmp_path)
    assert directory.read_record() is None

    directory.write_record(RECORD)
    assert directory.read_record() == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["up.json"]

    directory.record.write_text('{"pid": 17')
    assert directory.read_record() is None


def test_a_log_that_is_too_large_is_kept_once_and_begun_anew_while_its_writer_goes_on(tmp_path: Path):
    logs = Logs(tmp_path)
    with logs.open("status") as writer:
        writer.write(b"before\n" * 20)
        writer.flush()
        logs.shorten(bytes_max=100)
        writer.write(b"after\n")

    assert logs.path("status").read_bytes() == b"after\n"
    assert (tmp_path / "status.log.1").read_bytes() == b"before\n" * 20
    logs.shorten(bytes_max=100)
    assert logs.path("status").read_bytes() == b"after\n"


def test_last_lines_are_the_last_of_those_behind_a_place(tmp_path: Path):
    logs = Logs(tmp_path)
    logs.path("status").write_text("".join(f"line {number}\n" for number in range(1000)))

    assert logs.last_lines("status", count=2) == "line 998\nline 999"
    assert logs.last_lines("status", after=logs.path("status").stat().st_size - 9) == "line 999"
    assert len(logs.last_lines("status").splitlines()) == 10


def test_orphans_are_killed_if_their_command_line_is_ours_and_others_pids_are_left_alone(tmp_path: Path):
    sleep = [sys.executable, "-ISc", "import time; time.sleep(60)"]
    with (
        subprocess.Popen([*sleep, str(tmp_path)], start_new_session=True) as ours,
        subprocess.Popen(sleep, start_new_session=True) as somebody,
    ):
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        while not command_line(ours.pid).endswith(f"{tmp_path} "):
            pass  # it has been forked and not yet become itself

        end_orphans([ours.pid, somebody.pid, gone.pid], tmp_path)

        assert ours.wait(timeout=5) == -9
        with pytest.raises(subprocess.TimeoutExpired):
            somebody.wait(timeout=0.05)
        somebody.kill()
