"""What noise has cost, on a terminal: in the list of runs, while one is watched, and line by line."""

from datetime import UTC, datetime

from view_story import round_view, shown, view_after

from fedplane.cli.display import run_table
from fedplane.cli.lines import progress_lines
from fedplane.cli.picture import progress
from fedplane.schemas.details import detail
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Aggregated, Opened
from fedplane.schemas.models import Task
from fedplane.schemas.privacy_terms import Spent
from fedplane.schemas.views import RunView

NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)
SPENT = Spent(epsilon=2.71828, delta=1e-5, rounds=2, multiplier=2.0, clip=1.0, accountant="pld")
SAID = "epsilon=2.718 delta=1e-05"


def noisy() -> RunView:
    done = round_view(2, Task.TRAIN, 1).model_copy(update={"privacy": SPENT})
    return view_after(Opened).model_copy(update={"privacy": SPENT, "rounds": (done,)})


def test_a_list_of_runs_has_a_place_for_it_as_soon_as_one_of_them_has_noise() -> None:
    plain = view_after(Opened)

    assert "PRIVACY" not in shown(run_table([plain], NOW))
    assert "PRIVACY" in shown(run_table([plain, noisy()], NOW), width=200)
    assert SAID in shown(run_table([plain, noisy()], NOW), width=200)


def test_who_watches_a_run_sees_it() -> None:
    assert f"privacy: {SAID}, by 2 rounds with noise" in shown(progress(noisy(), NOW))
    assert "privacy" not in shown(progress(view_after(Opened), NOW))


def test_each_rounds_line_has_it() -> None:
    (line,) = [said for said in progress_lines(None, noisy(), NOW) if "aggregated" in said]

    assert line.endswith(SAID)


def test_the_fact_of_a_result_is_printed_with_it() -> None:
    aggregated = next(fact for fact in EXAMPLES if isinstance(fact, Aggregated))

    assert detail(aggregated.model_copy(update={"privacy": SPENT})) == f"{detail(aggregated)} {SAID}"
