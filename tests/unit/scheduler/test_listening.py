"""Which listeners there should be, and what is said of them: decided from the log and from what was last seen of the hub."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from log_story import knows, recorded
from work_story import learning

from fedplane.runtime.ports import Recorded
from fedplane.runtime.replica import Action, Perform, State
from fedplane.scheduler.attempts import Tried
from fedplane.scheduler.listeners import Entrance
from fedplane.scheduler.listening import EXPOSED_MAX, LOOK_AGAIN_SECONDS, Expose, Listening, Runs, Seen, Sight, Withdraw
from fedplane.schemas.facts import Archived, Cancelled, Exposed, Failed, RunFact, Submitted
from fedplane.schemas.models import Exposure, Piece

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PORT: Mapping[str, Any] = {"type": "NodePort", "port": 31531}
BALANCER: Mapping[str, Any] = {"type": "LoadBalancer", "port": 4222}
AT_PORT, AT_BALANCER = Entrance("NodePort", 31531), Entrance("LoadBalancer", 4222)
AT_NODE = Entrance("NodePort", 31531, "10.0.0.9")
EXPOSURE = Exposure(name="listener-nodeport-31531", type="NodePort", address="10.0.0.1:31531", port=31531)
NONE_YET = {"listener-loadbalancer-4222": "none yet"}


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def submitted(run: str, *listeners: Mapping[str, Any]) -> Submitted:
    return Submitted(run=run, at=NOON, resource=learning(server={"listeners": [dict(each) for each in listeners]}), from_hub=True)


def exposed(run: str, number: int, *listeners: Exposure, moment: datetime = NOON, **pending: str) -> Exposed:
    return Exposed(run=run, at=moment, number=number, listeners=listeners, pending=pending)


def log(*facts: RunFact) -> Runs:
    return knows(Listening(), recorded(facts))


def decided(state: Runs, hub: Seen | None = None, now: datetime = NOON, namespace: str = "fedplane") -> list[Action]:
    core = Listening(namespace)
    core.hub = hub or Seen(looked=True)
    return list(core.decide(state, now))


def seen(sights: dict[Entrance, Sight], *there: str) -> Seen:
    return Seen(sights, {entrance.name for entrance in sights} | set(there), looked=True)


def look(entrance: Entrance, run: str, last: datetime | None = None) -> Perform:
    return Perform(("expose", entrance, run, last), Expose(entrance, run))


def test_each_listener_that_a_live_run_asks_for_is_looked_at_once_whoever_else_asks_for_it() -> None:
    state = log(submitted("b", PORT, BALANCER), submitted("a", PORT), submitted("c"), submitted("d", {**PORT, "ip": "10.0.0.9"}))

    assert decided(state) == [look(AT_BALANCER, "b"), look(AT_PORT, "b"), look(AT_NODE, "b")]


@pytest.mark.parametrize(
    ("sight", "seconds", "is_due"),
    [
        (Sight(NOON, "r", "10.0.0.1:31531"), LOOK_AGAIN_SECONDS - 1, False),
        (Sight(NOON, "r", "10.0.0.1:31531"), LOOK_AGAIN_SECONDS, True),
        (Sight(NOON, "r", "10.0.0.1:31531", failures=1), 2, True),
        (Sight(NOON, "r", why="none yet", failures=1), 1, False),
        (Sight(NOON, "r", why="none yet", failures=1), 2, True),
        (Sight(NOON, "r", why="none yet", failures=100), 4, False),
        (Sight(NOON, "r", why="none yet", failures=100), 5, True),
        (Sight(NOON, "an earlier one", "10.0.0.1:31531"), 0, True),
    ],
)
def test_a_listener_is_looked_at_again_soon_if_it_has_no_address_and_at_once_for_another_run(
    sight: Sight, seconds: float, is_due: bool
) -> None:
    state = log(submitted("r", PORT), exposed("r", 1, EXPOSURE))
    looks = [action for action in decided(state, seen({AT_PORT: sight}), at(seconds)) if isinstance(action, Perform)]

    assert looks == ([look(AT_PORT, "r", NOON)] if is_due else [])


def test_what_is_said_of_a_run_is_said_when_all_its_listeners_were_looked_at_and_when_something_has_changed() -> None:
    run = submitted("r", PORT, BALANCER)
    half = seen({AT_PORT: Sight(NOON, "r", "10.0.0.1:31531")})
    whole = seen({**half.sights, AT_BALANCER: Sight(NOON, "r", why="none yet", failures=1)})
    moved = seen({**whole.sights, AT_PORT: Sight(NOON, "r", "10.0.0.2:31531")})
    first = exposed("r", 1, EXPOSURE, **NONE_YET)

    assert decided(log(run), half) == [look(AT_BALANCER, "r")]
    assert decided(log(run), whole) == [State(first)]
    assert decided(log(run, first), whole) == []
    assert decided(log(run, first), moved) == [
        State(exposed("r", 2, EXPOSURE.model_copy(update={"address": "10.0.0.2:31531"}), **NONE_YET))
    ]


def test_what_was_seen_for_a_run_that_has_ended_is_not_said_of_another() -> None:
    state = log(submitted("a", PORT), submitted("b", PORT), Cancelled(run="a", at=NOON))

    assert decided(state, seen({AT_PORT: Sight(NOON, "a", "10.0.0.1:31531")})) == [look(AT_PORT, "b", NOON)]


def test_a_run_is_told_of_its_listeners_in_its_own_order() -> None:
    run = submitted("r", PORT, BALANCER)
    balancer = Exposure(name="listener-loadbalancer-4222", type="LoadBalancer", address="lb:4222")
    hub = seen({AT_BALANCER: Sight(NOON, "r", "lb:4222"), AT_PORT: Sight(NOON, "r", "10.0.0.1:31531")})

    assert decided(log(run), hub) == [State(exposed("r", 1, EXPOSURE, balancer))]


def test_a_run_is_told_so_often_and_no_more() -> None:
    run, hub = submitted("r", PORT), seen({AT_PORT: Sight(NOON, "r", "10.0.0.2:31531")})

    assert len(decided(log(run, exposed("r", EXPOSED_MAX - 1, EXPOSURE)), hub)) == 1
    assert decided(log(run, exposed("r", EXPOSED_MAX, EXPOSURE)), hub) == []


def test_a_listener_that_no_live_run_asks_for_is_deleted_and_so_is_what_was_left_over() -> None:
    ended = log(submitted("a", PORT), submitted("b", BALANCER), Failed(run="a", at=NOON, reason="X", message="x"))
    sights = {AT_PORT: Sight(NOON, "a", "x:1"), AT_BALANCER: Sight(NOON, "b", "y:2")}
    names = frozenset({"listener-loadbalancer-4222"})
    said = log(submitted("b", BALANCER), exposed("b", 1, AT_BALANCER.exposure("y:2")))

    withdrawn = Perform(("withdraw", names, None), Withdraw(names))
    assert withdrawn in decided(ended, seen(sights))
    assert decided(said, seen({AT_BALANCER: sights[AT_BALANCER]})) == []
    assert decided(said, Seen({AT_BALANCER: sights[AT_BALANCER]}, looked=False)) == [withdrawn]
    assert decided(Runs(), Seen()) == [Perform(("withdraw", frozenset(), None), Withdraw(frozenset()))]


def test_what_could_not_be_deleted_is_tried_again_after_a_while() -> None:
    hub = seen({}, "listener-nodeport-31531")
    hub.tried = Tried(NOON, failures=2)

    assert decided(Runs(), hub, at(3)) == []
    assert decided(Runs(), hub, at(4)) == [Perform(("withdraw", frozenset(), NOON), Withdraw(frozenset()))]


def test_without_the_buss_namespace_nothing_is_made_and_each_run_is_told_what_to_set() -> None:
    why = "the scheduler does not know in which namespace the bus is: set its FEDPLANE_LISTEN_NAMESPACE"
    first = exposed("r", 1, **{"listener-nodeport-31531": why})

    assert decided(log(submitted("r", PORT)), Seen(), namespace="") == [State(first)]
    assert decided(log(submitted("r", PORT), first), Seen(), namespace="") == []


def test_a_run_whose_listeners_cannot_be_asks_for_none() -> None:
    assert decided(log(submitted("r", PORT, {"type": "Gateway"}))) == []


def test_a_record_that_comes_again_changes_nothing_and_neither_does_what_is_said_of_an_unknown_run() -> None:
    core, state = Listening(), log(submitted("r", PORT), exposed("r", 1, EXPOSURE))
    piece = Piece(subject="x", bytes=0, chunk_bytes=1, digest="blake3:" + "0" * 64)

    assert core.evolve(state, Recorded(Cancelled(run="r", at=NOON), 2)) is state
    assert core.evolve(state, Recorded(submitted("r", BALANCER), 3)) == Runs(state.live, 3)
    assert core.evolve(state, Recorded(exposed("unknown", 1), 3)) == Runs(state.live, 3)
    assert core.evolve(state, Recorded(Archived(run="r", at=NOON, facts=1, piece=piece), 3)) == Runs({}, 3)
