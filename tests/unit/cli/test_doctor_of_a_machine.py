"""What doctor says of the machine, and how its findings look to a person and to a program."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fedplane.cli.directory import Directory, Record
from fedplane.cli.doctor import findings, machine
from fedplane.cli.doctor.findings import Finding, Level, judge, ok, problem, warning, worst
from fedplane.cli.doctor.machine import MachineSeen
from fedplane.cli.doctor.probing import machine_findings

CHECKS = {**machine.CHECKS, **machine.FEDERATION_CHECKS}
DOWN = MachineSeen(
    python=(3, 11, 7), directory="here", up="fedplane up", server="bin/nats-server", port=4222,
    store_bytes=5_000_000_000, free_bytes=50_000_000_000, disk_bytes=100_000_000_000,
)  # fmt: skip
UP = replace(DOWN, up_pid=7, ready=True)


def wrong(seen: MachineSeen) -> list[tuple[str, str, str]]:
    return [(found.check, found.level.value, found.what) for found in judge("machine", CHECKS, seen) if found.level is not Level.OK]


@pytest.mark.parametrize("seen", [DOWN, UP], ids=["down", "up"])
def test_of_a_sound_machine_nothing_is_complained_of(seen: MachineSeen) -> None:
    assert wrong(seen) == []


@pytest.mark.parametrize(
    ("seen", "check", "level", "what"),
    [
        (replace(DOWN, python=(3, 10, 1)), "python", "problem", "this is Python 3.10.1, and fedplane is for 3.11 and newer"),
        (replace(DOWN, server=""), "nats-server", "warning", "there is no nats-server beside this Python"),
        (replace(DOWN, venv=False), "environments", "warning", "this Python cannot make environments"),
        (replace(DOWN, left={"status": 8}), "processes", "warning", "processes run on though their keeper is gone: status (8)"),
        (replace(UP, ready=False), "processes", "warning", "the federation in here is starting, pid 7"),
        (replace(UP, dead=("scheduler",)), "processes", "problem", "not running at this moment: scheduler"),
        (replace(DOWN, port_refusal=errno.EADDRINUSE), "port", "warning", "port 4222 is in use by another program"),
        (replace(DOWN, port=80, port_refusal=errno.EACCES), "port", "warning", "port 80 is not to be had (EACCES)"),
        (replace(DOWN, free_bytes=1_000_000_000), "disk", "warning", "1.0 GB are free, and the store may grow by 5.0 GB"),
        (replace(UP, free_bytes=1_000_000_000), "disk", "problem", "1.0 GB are free, and the store may grow by 5.0 GB"),
        (replace(UP, free_bytes=4_000_000_000, stored_bytes=4_900_000_000), "disk", "warning", "the disk is 96% full"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_one_finding_of_its_check(seen: MachineSeen, check: str, level: str, what: str) -> None:
    ((found_check, found_level, said),) = wrong(seen)

    assert (found_check, found_level) == (check, level)
    assert said.startswith(what)


def test_packages_that_are_left_out_are_said_and_no_fault() -> None:
    (found,) = (found for found in judge("machine", CHECKS, replace(DOWN, absent=frozenset({"numba"}))) if found.check == "packages")

    assert (found.level, found.what) == (
        Level.OK, "not installed, which is fine unless wanted: fedplane[fast]: folding takes three times as long",
    )  # fmt: skip


def test_what_a_killed_keeper_left_is_found_and_other_peoples_processes_are_not(tmp_path: Path) -> None:
    directory = Directory.at(tmp_path)
    directory.make()
    left = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert left.stdout is not None
        left.stdout.readline()  # until then the kernel may not know its arguments
        processes = {"status": left.pid, "somebody": os.getppid()}
        directory.write_record(Record(pid=1, nats_url="nats://here", started_at=datetime.now(UTC), ready=True, processes=processes))
        killed = [found.what for found in machine_findings(directory, local=True) if found.check == "processes"]
        with directory.held():
            kept = [found.what for found in machine_findings(directory, local=True) if found.check == "processes"]
    finally:
        left.communicate(b"\n")

    assert killed == [f"processes run on though their keeper is gone: status ({left.pid})"]
    assert kept == ["not running at this moment: somebody"]


def test_of_somebody_elses_federation_only_this_programs_own_needs_are_looked_at(tmp_path: Path) -> None:
    assert {found.check for found in machine_findings(Directory.at(tmp_path), local=False)} == {"python", "packages"}


FOUND = [
    Finding(Level.OK, "it is there", "", "bus", "server"),
    Finding(Level.PROBLEM, "no\x1b[2J room", "free some", "bus", "room"),
    Finding(Level.WARNING, "late", "set it", "roles", "clock"),
]


def shown(found: list[Finding], *, wide: bool = False) -> list[str]:
    text = StringIO()
    Console(file=text, width=80, markup=False, highlight=False).print(findings.picture(found, wide=wide))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_a_person_reads_what_was_found_and_below_it_how_to_mend_it() -> None:
    assert shown(FOUND) == [
        "CHECK   RESULT   FOUND",
        "server  ok       it is there",
        "room    problem  no [2J room",
        "                 -> free some",
        "clock   warning  late",
        "                 -> set it",
        "",
        "1 problem and 1 warning; an arrow says how to mend each.",
    ]
    assert shown(FOUND, wide=True)[1] == "bus    server  ok       it is there"
    assert shown(FOUND[:1])[-1] == "Nothing is wrong."


def test_a_program_reads_the_same() -> None:
    assert findings.documents(FOUND[:1]) == [{"level": "ok", "what": "it is there", "mend": "", "area": "bus", "check": "server"}]


def test_the_worst_finding_decides() -> None:
    assert worst([]) is Level.OK
    assert worst([ok("a"), warning("b", "c")]) is Level.WARNING
    assert worst([problem("a", "b"), warning("b", "c"), ok("c")]) is Level.PROBLEM
