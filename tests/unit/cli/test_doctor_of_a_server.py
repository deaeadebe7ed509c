"""What doctor says of a server and of those who live on it, for everything that may be wrong: one change to what is sound, one finding."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fedplane.cli.doctor import roles, server
from fedplane.cli.doctor.findings import Finding, Level, judge
from fedplane.runtime.nats.looking import HEARING, TRIALS
from fedplane.runtime.nats.streams import FOLDS_CONSUMER, STREAMS, TIMERS_CONSUMER
from fedplane.runtime.observed import (
    Access,
    BusSeen,
    Difference,
    LettersSeen,
    QueueSeen,
    ReaderSeen,
    Stamp,
    StreamSeen,
    SubscriptionSeen,
    Trial,
)
from fedplane.runtime.subscribing import DURABLES_MAX
from fedplane.schemas.facts import Advertised

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HALF_FULL = StreamSeen(bytes=50, bytes_max=100)


def advertised(cluster: str, ago_seconds: float = 1, **more: Any) -> Advertised:
    return Advertised(cluster=cluster, at=NOON - timedelta(seconds=ago_seconds), lease_seconds=15, **more)


def stamp(source: str, ahead_seconds: float) -> Stamp:
    return Stamp(source, NOON + timedelta(seconds=ahead_seconds), NOON)


AUDIT = SubscriptionSeen("audit", "me", 1_200, False)

SOUND = BusSeen(
    version="2.15.1",
    payload_bytes_max=1_048_576,
    streams=dict.fromkeys(STREAMS, HALF_FULL),
    queues={FOLDS_CONSUMER: QueueSeen(2, 0, 0), TIMERS_CONSUMER: QueueSeen(2, 0, 0)},
    readers=tuple(ReaderSeen(name, True) for name in ("aggregator 0", "aggregator 1", "driver 0", "scheduler 0", "status 0")),
    trials=tuple(Trial(what, Access.ALLOWED) for what in (HEARING, *TRIALS)),
    advertised=(advertised("a"), advertised("b")),
    stamps=(stamp("/fedplane/collaborator/a", -0.01), stamp("/fedplane/scheduler/0", -0.002)),
    now=NOON,
    ahead_seconds=0.001,
    doubt_seconds=0.002,
)


def findings(seen: BusSeen) -> list[Finding]:
    return judge("bus", server.CHECKS, seen) + judge("roles", roles.CHECKS, seen)


def wrong(seen: BusSeen) -> list[tuple[str, str, str]]:
    return [(found.check, found.level.value, found.what) for found in findings(seen) if found.level is not Level.OK]


def with_stream(name: str, stream: StreamSeen | None) -> BusSeen:
    return replace(SOUND, streams={**SOUND.streams, name: stream})


def without_reader(role: str, **more: Any) -> BusSeen:
    return replace(SOUND, readers=tuple(reader for reader in SOUND.readers if not reader.name.startswith(role)), **more)


def with_trial(what: str, access: Access) -> BusSeen:
    return replace(SOUND, trials=tuple(Trial(what, access) if trial.what == what else trial for trial in SOUND.trials))


def test_of_what_is_sound_every_check_says_so() -> None:
    said = findings(SOUND)

    assert {found.check for found in said} == set(server.CHECKS) | set(roles.CHECKS)
    assert {found.level for found in said} == {Level.OK}
    assert [found.what for found in said if found.check == "clusters"] == ["2 clusters can take runs: a, b"]


@pytest.mark.parametrize(
    ("seen", "check", "level", "what"),
    [
        (replace(SOUND, version="2.11.4"), "version", "problem", "nats-server 2.11.4 has no message schedules, so no deadline"),
        (replace(SOUND, version="a fork"), "version", "warning", "the server says that its version is 'a fork'"),
        (replace(SOUND, payload_bytes_max=1_000_000), "payload", "problem", "the server takes messages of 1,000,000 bytes"),
        (with_stream("LOG", None), "streams", "problem", "there is no LOG"),
        (
            with_stream("WORK", replace(HALF_FULL, drift=(Difference("discard", "old", "new"),))),
            "streams", "problem", "WORK: discard is 'old' instead of 'new'",
        ),
        (replace(SOUND, unseen={"stream BULK": "no answer"}), "streams", "warning", "BULK cannot be looked at: no answer"),
        (replace(SOUND, queues={FOLDS_CONSUMER: None}), "consumers", "problem", "there is no consumer folds, so nothing is folded"),
        (
            replace(SOUND, queues={FOLDS_CONSUMER: None}, unseen={f"consumer {FOLDS_CONSUMER}": "no answer"}),
            "consumers", "warning", "the consumer folds cannot be looked at: no answer",
        ),
        (with_stream("LOG", replace(HALF_FULL, behind=("n2",))), "copies", "warning", "LOG has copies that are offline or behind, on n2"),
        (with_stream("LOG", replace(HALF_FULL, copies=2)), "copies", "warning", "LOG has an even number of copies"),
        (replace(SOUND, servers=3), "copies", "warning", "the cluster has 3 servers, and LOG, FLEET, ACCESS, TIMERS, WORK"),
        (with_stream("LOG", replace(HALF_FULL, bytes=80)), "room", "problem", "LOG holds 0.0 of 0.0 MB: it takes no new run"),
        (with_stream("BULK", replace(HALF_FULL, bytes=80)), "room", "warning", "BULK holds 0.0 of 0.0 MB"),
        (with_stream("BULK", replace(HALF_FULL, bytes=95)), "room", "problem", "BULK holds 0.0 of 0.0 MB and is about to refuse more"),
        (with_stream("FLEET", replace(HALF_FULL, bytes=95)), "room", "problem", "FLEET holds 0.0 of 0.0 MB and drops what is oldest"),
        (with_stream("ACCESS", replace(HALF_FULL, bytes=95)), "room", "problem", "ACCESS holds 0.0 of 0.0 MB and is about to refuse more"),
        (replace(SOUND, letters=LettersSeen(50, 100, {"registry": 2})), "letters", "warning", "dead letters: 2 of registry"),
        (replace(SOUND, letters=LettersSeen(95, 100, {"a": 1, "b": 2})), "letters", "problem", "dead letters: 1 of a, 2 of b, and"),
        (replace(SOUND, unseen={"letters": "no answer"}), "letters", "warning", "dead letters cannot be looked at: no answer"),
        (with_trial("state facts of runs", Access.DENIED), "permissions", "problem", "these credentials may not state facts of runs"),
        (with_trial("offer work", Access.SILENT), "permissions", "warning", "no usable answer came to the attempt to offer work"),
        (with_trial("show runs", Access.STORED), "permissions", "problem", "something that stands between us and the server"),
        (without_reader("scheduler"), "services", "problem", "no scheduler reads the log, so no run is given clusters"),
        (
            without_reader("status", unseen={"readers": "not allowed"}),
            "services", "warning", "who reads the log cannot be seen: not allowed",
        ),
        (
            replace(SOUND, subscriptions=(AUDIT,) * DURABLES_MAX),
            "subscriptions", "warning", "there are 100 durable subscriptions, and no more are taken",
        ),
        (replace(SOUND, unseen={"subscriptions": "no"}), "subscriptions", "warning", "durable subscriptions cannot be seen: no"),
        (replace(SOUND, queues={FOLDS_CONSUMER: QueueSeen(0, 3, 0)}), "work", "problem", "3 tasks wait to fold"),
        (replace(SOUND, queues={TIMERS_CONSUMER: QueueSeen(0, 0, 0)}), "work", "problem", "nobody keeps the timers"),
        (replace(SOUND, advertised=()), "clusters", "warning", "no cluster has ever advertised itself"),
        (replace(SOUND, advertised=(advertised("a", 90),)), "clusters", "warning", "a has not been heard of for 1m30s"),
        (
            replace(SOUND, advertised=(advertised("a", unavailable="its hub has lost it"),)),
            "clusters", "warning", "1 cluster can take no run: a: its hub has lost it",
        ),
        (replace(SOUND, ahead_seconds=-5.0), "clock", "warning", "this machine's clock is 5.000 s behind the server's"),
        (replace(SOUND, ahead_seconds=60.0), "clock", "problem", "this machine's clock is 60.000 s ahead of the server's"),
        (
            replace(SOUND, stamps=(stamp("/fedplane/collaborator/a", -12), stamp("/fedplane/collaborator/a", -11))),
            "other clocks", "problem", "the clock of /fedplane/collaborator/a is 11.000 s behind the server's",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_one_finding_of_its_check(seen: BusSeen, check: str, level: str, what: str) -> None:
    ((found_check, found_level, said),) = wrong(seen)

    assert (found_check, found_level) == (check, level)
    assert said.startswith(what)


def test_everything_that_is_wrong_comes_with_a_way_to_mend_it() -> None:
    everything = BusSeen(version="1.0", payload_bytes_max=0, streams=dict.fromkeys(STREAMS), queues={}, now=NOON, trials=SOUND.trials)

    said = findings(everything)

    assert {found.check for found in said if found.level is Level.PROBLEM} == {"version", "payload", "streams", "services"}
    assert [found for found in said if (found.level is Level.OK) == bool(found.mend)] == []


def test_without_jetstream_nothing_else_is_complained_of() -> None:
    off = BusSeen(version="2.15.1", payload_bytes_max=1_048_576, jetstream=False)

    assert [(check, level) for check, level, _ in wrong(off) if check in server.CHECKS] == [("jetstream", "problem")]


def test_a_line_is_no_slow_clock_and_a_short_delay_hides_no_fast_one() -> None:
    """Of two facts of one source the quicker tells: the other was only longer on its way."""
    slow_line = replace(SOUND, stamps=(stamp("/fedplane/collaborator/a", -30), stamp("/fedplane/collaborator/a", -0.1)))
    fast_clock = replace(SOUND, stamps=(stamp("/fedplane/collaborator/a", 3.0), stamp("/fedplane/collaborator/a", -1)))

    assert wrong(slow_line) == []
    assert [(check, level) for check, level, _ in wrong(fast_clock)] == [("other clocks", "warning")]


def test_a_clock_that_was_wrong_yesterday_is_none_to_complain_of() -> None:
    yesterday = Stamp("/fedplane/collaborator/a", NOON, NOON - timedelta(days=1))

    assert wrong(replace(SOUND, stamps=(yesterday,))) == []


def test_a_thousand_silent_clusters_are_one_finding() -> None:
    fleet = replace(SOUND, advertised=tuple(advertised(f"c{number:04}", 60) for number in range(1000)))

    assert wrong(fleet) == [
        (
            "clusters",
            "warning",
            "1000 of 1000 clusters have not been heard of: c0000 (1m00s), c0001 (1m00s), c0002 (1m00s), c0003 (1m00s), c0004 (1m00s) "
            "and 995 more",
        )
    ]


def test_who_listens_is_listed_with_what_it_has_still_to_hear() -> None:
    seen = replace(SOUND, letters=LettersSeen(0, 100, {}), subscriptions=(AUDIT, SubscriptionSeen("hook", "fedplane-forward", 0, True)))

    said = {found.check: found.what for found in findings(seen)}

    assert (
        said["subscriptions"] == "durable subscriptions: audit of me is 1,200 facts behind, hook of fedplane-forward has heard everything"
    )
    assert said["letters"] == "no webhook has left dead letters"
    assert wrong(seen) == []


def test_rights_of_other_roles_that_a_person_lacks_are_as_they_should_be() -> None:
    (found,) = (found for found in findings(with_trial("set timers", Access.DENIED)) if found.check == "permissions")

    assert (found.level, "need not: set timers" in found.what) == (Level.OK, True)


def test_a_role_that_was_there_a_moment_ago_is_named() -> None:
    gone = replace(SOUND, readers=tuple(replace(reader, asking=reader.name != "status 0") for reader in SOUND.readers))

    assert [what for _, _, what in wrong(gone)] == [
        "no status reads the log, so `get`, `watch` and `explain` show what was, and ended runs stay on the log; "
        "status 0 was there within the last minute"
    ]


def test_drift_that_no_edit_can_mend_is_told_apart() -> None:
    (edited,) = (
        found for found in findings(with_stream("WORK", replace(HALF_FULL, drift=(Difference("discard", "old", "new"),)))) if found.mend
    )
    drift = (Difference("retention", "limits", "workqueue"),)
    (made_anew,) = (found for found in findings(with_stream("WORK", replace(HALF_FULL, drift=drift))) if found.mend)

    assert "`nats stream edit WORK`" in edited.mend
    assert "`nats stream rm WORK`" in made_anew.mend


def test_whoever_has_to_make_the_stream_of_access_anew_is_told_to_revoke_again() -> None:
    drift = (Difference("deny_delete", False, True),)
    (found,) = (found for found in findings(with_stream("ACCESS", replace(HALF_FULL, drift=drift))) if found.mend)

    assert "read `fedplane access list` before, and revoke again at once whoever is not to be let in" in found.mend
