"""Whatever the order in which runs' facts mix, and however often they are delivered, a run's view is the fold of its own facts."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from log_story import deliveries, knows, recorded

from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.models import Task
from fedplane.schemas.views import RunView
from fedplane.status.phases import Phases

RUNS = ("one-1", "two-2", "three-3")
SAID = [fact for fact in EXAMPLES if isinstance(fact, facts.RunFact) and not isinstance(fact, facts.Archived)]
"""Everything that is said of a run while it has a view here."""
CORE = Phases(runs_kept_max=100)


@st.composite
def said(draw: st.DrawFn) -> facts.RunFact:
    """Any fact about one of the runs, whether it makes sense there or not."""
    fact = draw(st.sampled_from(SAID))
    anything = {"run": RUNS, "round": range(4), "cluster": ("hospital-a", "hospital-b"), "task": Task, "training_round": range(3)}
    return fact.model_copy(
        update={name: draw(st.sampled_from(values)) for name, values in anything.items() if name in type(fact).model_fields}
    )


SUBMITTED = [SAID[0].model_copy(update={"run": run}) for run in RUNS]
logs = st.lists(said(), max_size=60).map(lambda rest: recorded([*SUBMITTED, *rest]))


def run_of(record: Recorded) -> str:
    assert isinstance(record.fact, facts.RunFact)
    return record.fact.run


@given(logs)
def test_runs_do_not_touch_each_other(log: list[Recorded]) -> None:
    together = knows(CORE, log)

    assert together == {run: knows(CORE, [record for record in log if run_of(record) == run])[run] for run in RUNS}


@given(logs, st.data())
def test_facts_that_are_delivered_again_change_nothing(log: list[Recorded], data: st.DataObject) -> None:
    assert knows(CORE, data.draw(deliveries(log))) == knows(CORE, log)
    assert knows(CORE, log, knows(CORE, log)) == knows(CORE, log)


@given(logs)
def test_a_terminal_view_never_moves(log: list[Recorded]) -> None:
    ended: dict[str, RunView] = {}
    state = CORE.initial()
    for record in log:
        state = CORE.evolve(state, record)
        ended = {run: view for run, view in state.items() if view.ended and run not in ended} | ended

    assert {run: state[run] for run in ended} == ended


@given(logs)
def test_every_view_on_the_way_is_valid_and_reflects_only_facts_that_were_said(log: list[Recorded]) -> None:
    state = CORE.initial()
    for record in log:
        state = CORE.evolve(state, record)
        for view in state.values():
            assert RunView.model_validate_json(view.model_dump_json()) == view
            assert view.sequence <= record.sequence
            assert all(set(of.answered) <= set(of.invited) for of in view.rounds)


@given(logs, st.randoms())
def test_no_order_of_facts_breaks_it(log: list[Recorded], random: Random) -> None:
    random.shuffle(log)

    assert set(knows(CORE, log)) == set(RUNS)
