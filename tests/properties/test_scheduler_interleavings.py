"""However the facts arrive, what the scheduler knows is the same, and what it decides is decided once."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from log_story import deliveries, knows, recorded

from fedplane.scheduler.runs import Scheduler
from fedplane.schemas.facts import Advertised, Cancelled, Failed, Scheduled, Started, Submitted, Waiting
from fedplane.schemas.models import Chosen
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CORE = Scheduler()
RUNS = ("a-1", "b-1", "c-1")


def resource(name, clusters_min):
    spec = {"server": {"minAvailableClients": clusters_min}, "data": {"claim": "data"}}
    return FederatedLearning.model_validate({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec})


def facts_of(run):
    """Facts about a run, in no order: most logs made of them are nonsense, and the core must bear all of them."""
    participants = st.sets(st.sampled_from("wxyz")).map(
        lambda names: tuple(Chosen(cluster=name, score=0, terms=()) for name in sorted(names))
    )
    return st.one_of(
        st.integers(1, 4).map(lambda least: Submitted(at=NOON, run=run, resource=resource(run[:1], least))),
        st.integers(1, 5).map(lambda k: Waiting(at=NOON, run=run, number=k, wanted=4, eligible=k, message="", refused=())),
        participants.map(lambda chosen: Scheduled(at=NOON, run=run, participants=chosen, refused=())),
        st.just(Started(at=NOON, run=run, strategy="fedavg", training_rounds=3)),
        st.just(Failed(at=NOON, run=run, reason="x", message="")),
        st.just(Cancelled(at=NOON, run=run)),
    )


run_logs = st.lists(st.sampled_from(RUNS).flatmap(facts_of), max_size=15)
fleet_logs = st.lists(
    st.builds(
        lambda cluster, age, data: Advertised(
            at=NOON - timedelta(seconds=age), cluster=cluster, lease_seconds=15, claims={"data": data}
        ),
        st.sampled_from("wxyz"),
        st.integers(0, 30),
        st.sampled_from(["", "/data"]),
    ),
    max_size=10,
)  # fmt: skip


@st.composite
def merges(draw, one, other):
    """Two sequences as one, each in its own order."""
    merged, rest = [], [list(one), list(other)]
    while all(rest):
        merged.append(rest[draw(st.integers(0, 1))].pop(0))
    return merged + rest[0] + rest[1]


@given(st.data(), run_logs, fleet_logs)
def test_interleaving_repetition_and_replay_leave_the_same_state(data, run_log, fleet_log):
    runs, fleet = recorded(run_log), recorded(fleet_log)
    arrived = data.draw(merges(data.draw(deliveries(runs)), data.draw(deliveries(fleet))))

    once, again = knows(CORE, runs + fleet), knows(CORE, arrived)

    assert again == once
    assert not set(once.unplaced) & set(once.placed)
    assert CORE.decide(again, NOON) == CORE.decide(once, NOON)
    assert knows(CORE, arrived, again) == once


@given(st.data(), st.lists(facts_of("a-1"), max_size=8), st.lists(facts_of("b-1"), max_size=8))
def test_what_is_known_of_a_run_does_not_depend_on_the_others(data, of_a, of_b):
    def known(log, run):
        state = knows(CORE, recorded(log))
        unplaced = state.unplaced.get(run)
        return unplaced and (unplaced.resource, unplaced.said), state.placed.get(run), state.last_participants.get(("default", run[:1]))

    both = data.draw(merges(of_a, of_b))

    assert (known(both, "a-1"), known(both, "b-1")) == (known(of_a, "a-1"), known(of_b, "b-1"))


@given(run_logs, fleet_logs, st.integers(-30, 30))
def test_once_everything_decided_is_in_the_log_there_is_nothing_left_to_say(run_log, fleet_log, seconds):
    now = NOON + timedelta(seconds=seconds)
    state = knows(CORE, recorded(run_log) + recorded(fleet_log))
    said = [action.fact for action in CORE.decide(state, now)]
    settled = knows(CORE, recorded(said, state.runs_sequence + 1), state)

    assert {fact.run for fact in said} <= set(state.unplaced)
    assert list(CORE.decide(settled, now)) == []
