"""What doctor says of our own certificate, and of what others were granted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedplane.cli.access_log import folded
from fedplane.cli.connection import Server
from fedplane.cli.credentials import read_bundle
from fedplane.cli.doctor.access import BUNDLE_CHECKS, CHECKS, AccessSeen, BundleSeen
from fedplane.cli.doctor.findings import judge
from fedplane.cli.doctor.probing import bus_findings
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Granted, Revoked
from fedplane.schemas.roles import Role

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OURS = BundleSeen(NOON, "cli.pem", Role.OPERATOR, "anna", NOON + timedelta(days=30))


def said_of(seen: BundleSeen) -> list[tuple[str, str, str]]:
    return [(found.check, found.level.value, found.what) for found in judge("access", BUNDLE_CHECKS, seen)]


def granted(name: str, days: float) -> Granted:
    return Granted(
        role="subscriber", name=name, at=NOON - timedelta(days=30), expires_at=NOON + timedelta(days=days), fingerprint="5e" * 32
    )


def revoked(role: str, name: str) -> Revoked:
    return Revoked(role=role, name=name, at=NOON)


def of_others(*facts: Granted | Revoked) -> list[tuple[str, str, str]]:
    seen = AccessSeen(NOON, tuple(folded(Recorded(fact, sequence) for sequence, fact in enumerate(facts, 1))))
    return [(found.check, found.level.value, found.what) for found in judge("access", CHECKS, seen)]


def test_it_says_as_whom_we_come_and_for_how_long() -> None:
    assert said_of(OURS) == [("certificate", "ok", "we are cli anna, until 2026-04-01")]


@pytest.mark.parametrize(
    ("left", "level", "what"),
    [
        (timedelta(days=7), "ok", "we are cli anna, until 2026-03-09"),
        (timedelta(days=2, hours=3), "warning", "the certificate of cli anna in cli.pem ends in 2d03h"),
        (timedelta(hours=-1), "problem", "the certificate of cli anna in cli.pem ended 1h00m ago"),
    ],
)
def test_a_certificate_that_ends_soon_is_told_in_time(left: timedelta, level: str, what: str) -> None:
    assert said_of(replace(OURS, until=NOON + left)) == [("certificate", level, what)]


def test_who_mends_it_is_whoever_made_it() -> None:
    ended = replace(OURS, until=NOON)

    (by_hand,), (by_up,) = (judge("access", BUNDLE_CHECKS, replace(ended, renewed=each)) for each in (False, True))

    assert by_hand.mend.startswith("`fedplane access issue cli anna`")
    assert by_up.mend.startswith("`fedplane down` and `fedplane up`")


def test_whoever_comes_as_nobody_or_as_somebody_else_is_told() -> None:
    assert [(check, level) for check, level, _ in said_of(BundleSeen(NOON))] == [("certificate", "warning")]
    assert said_of(replace(OURS, role=Role.SUBSCRIBER))[1] == (
        "role", "warning", "cli.pem is for a subscriber, which may not do what the command line does",
    )  # fmt: skip


def test_of_nobody_there_is_nothing_to_say() -> None:
    assert of_others() == [("granted", "ok", "nobody was granted a subscription"), ("revoked", "ok", "nobody was thrown out")]


def test_what_ends_soon_is_told_and_what_has_ended_is_nobodys_business() -> None:
    assert of_others(granted("audit", 30), granted("dashboard", 2), granted("old", -1)) == [
        ("granted", "warning", "what subscribers were granted ends: dashboard in 2d00h"),
        ("granted", "ok", "subscribers: audit"),
        ("revoked", "ok", "nobody was thrown out"),
    ]


def test_a_cluster_that_was_thrown_out_was_meant_to_be_and_a_service_is_missed() -> None:
    assert of_others(revoked("collaborator", "amsterdam"), revoked("scheduler", "scheduler"))[1:] == [
        ("revoked", "problem", "services are not let in any more: scheduler scheduler"),
        ("revoked", "ok", "thrown out: collaborator amsterdam"),
    ]


def test_what_cannot_be_read_is_said_once() -> None:
    (found,) = judge("access", CHECKS, AccessSeen(NOON, unseen="the server does not allow it"))

    assert (found.check, found.level.value) == ("granted", "warning")


def test_a_bundle_that_cannot_be_read_is_a_problem_and_ends_the_look(tmp_path: Path) -> None:
    broken = tmp_path / "anna.pem"
    broken.write_text("# fedplane:cli:anna\n")

    (found,) = bus_findings(Server("tls://127.0.0.1:1", read_bundle(broken)))

    assert (found.area, found.check, found.level.value) == ("access", "certificate", "problem")
    assert found.what.startswith("that is no certificate in PEM")
