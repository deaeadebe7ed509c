"""What noise has cost, as it is shown of a run and of each of its rounds: in its view, to `kubectl`, and on the page."""

from status_story import Story, viewed

from fedplane.schemas import facts
from fedplane.schemas.privacy_terms import Spent
from fedplane.schemas.views import RunView
from fedplane.status.outward import status_of
from fedplane.status.page.pictures import overview

S = Story()
SPENT = tuple(
    Spent(epsilon=epsilon, delta=1e-5, rounds=n, multiplier=2.0, clip=1.0, accountant="pld") for n, epsilon in ((1, 1.5), (2, 2.25))
)


def noisy() -> RunView:
    """A whole run; its two training rounds have cost something, and an evaluation after the first has not."""
    costs = iter(SPENT)
    said = [fact.model_copy(update={"privacy": next(costs)}) if isinstance(fact, facts.Aggregated) else fact for fact in S.whole()]
    return viewed(*said)


def test_a_view_has_what_the_run_had_cost_after_each_round_and_what_it_has_cost_so_far() -> None:
    assert [of.privacy for of in noisy().rounds] == list(SPENT)
    assert noisy().privacy == SPENT[1]
    assert RunView.model_validate_json(noisy().model_dump_json()) == noisy()


def test_a_result_that_costs_nothing_does_not_make_the_cost_be_forgotten() -> None:
    said = [S.submitted(), S.scheduled(), S.started(), S.opened(4, 1, 1), S.closed(5, 1)]
    trained = S.aggregated(6, 1, 1).model_copy(update={"privacy": SPENT[0]})

    view = viewed(*said, trained, S.opened(7, 2, 1), S.closed(8, 2), S.aggregated(9, 2, 1, accuracy=0.5))

    assert (view.privacy, view.rounds[-1].privacy) == (SPENT[0], None)


def test_kubectl_shows_epsilon_and_delta() -> None:
    status = status_of(noisy())

    assert status["privacy"] == {"epsilon": 2.25, "delta": 1e-5, "rounds": 2, "accountant": "pld"}
    assert [of["epsilon"] for of in status["rounds"]] == [1.5, 2.25]


def test_the_page_has_epsilon_beside_each_round_and_says_nothing_where_there_is_no_noise() -> None:
    shown, plain = overview(noisy(), lambda number: ""), overview(viewed(*S.whole()), lambda number: "")

    assert shown["privacy"] == SPENT[1].model_dump()
    assert [of["epsilon"] for of in shown["rounds_held"]] == [1.5, 2.25]
    assert (plain["privacy"], [of["epsilon"] for of in plain["rounds_held"]]) == (None, [None, None])
    assert "privacy" not in status_of(viewed(*S.whole()))
