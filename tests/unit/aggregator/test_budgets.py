"""What the noise in a run's model costs: what is refused at the beginning, what each round says of it, and when the run ends for it."""

import sys
from typing import Any

import pytest
from aggregator_story import NOW, RUN, Story, contributed, folded
from masked_story import MaskedStory
from private_story import central

from fedplane.aggregator import budgets
from fedplane.aggregator.runs import Runs
from fedplane.privacy import accounting
from fedplane.privacy.accounting import epsilon, multiplier
from fedplane.runtime.replica import Offer
from fedplane.schemas.facts import Aggregated, Closed, Completed, Fact, Failed, Lapsed, Measured, RoundFailed
from fedplane.schemas.models import Task
from fedplane.schemas.privacy_terms import Spent
from fedplane.schemas.resources import Spec
from fedplane.schemas.subjects import parse_work_on

ROUNDS = {"server": {"rounds": 5, "minAvailableClients": 2}, "rounds": {"evaluate": False}}
WHERE = "spec.privacy.differentialPrivacy"


def begun(**said: Any) -> Story:
    """A run whose first training round is open."""
    story = Story(spec={**ROUNDS, "privacy": central(**said)})
    story.initialize()
    return story


def contribute(story: Story) -> int:
    """Everyone contributes to the round that is open, and its shards are measured."""
    assert story.run.round is not None
    number = story.run.round.opened.round
    story.tell(*(contributed(number, cluster) for cluster in "abc"))
    story.obey()
    lengths = (1.0, 4.0, 9.0)
    story.tell(*(Measured(run=RUN, round=number, shard=shard, at=NOW, members=tuple("abc"), products=lengths) for shard in range(3)))
    return number


def train(story: Story, below: float | None = None) -> list[Fact]:
    number = contribute(story)
    story.tell(*(folded(number, shard, *"abc").model_copy(update={"below": below}) for shard in range(3)))
    return story.obey()


def fail(story: Story, after_shards: int) -> list[Fact]:
    number = contribute(story)
    story.tell(*(folded(number, shard, *"abc") for shard in range(after_shards)))
    story.tell(RoundFailed(run=RUN, round=number, at=NOW, reason="unfoldable", message="the bus was full"))
    return story.obey()


def spent(story: Story) -> list[Spent | None]:
    return [fact.privacy for fact in story.log if isinstance(fact, Aggregated)]


def test_each_training_round_says_what_the_run_has_cost_so_far_and_nothing_else_costs() -> None:
    story = begun(noiseMultiplier=2.0, clip=3.0)
    while story.run.round is not None and not story.run.ended:
        train(story)

    cost = [epsilon(2.0, 1e-5, rounds, "pld") for rounds in range(1, 6)]
    assert spent(story) == [
        None,
        *(Spent(epsilon=cost[n], delta=1e-5, rounds=n + 1, multiplier=2.0, clip=3.0, accountant="pld") for n in range(5)),
    ]
    assert isinstance(story.log[-1], Completed)
    assert story.log[-1].reason == "all rounds done"


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_the_noise_that_follows_from_a_budget_is_for_all_rounds_together(accountant: Any) -> None:
    story = begun(noiseMultiplier=None, epsilon=3.0, delta=1e-6, accountant=accountant)
    noise = multiplier(3.0, 1e-6, 5, accountant)
    while not story.run.ended:
        train(story)

    last = spent(story)[-1]
    assert last is not None
    assert (last.rounds, last.multiplier, last.accountant) == (5, noise, accountant)
    assert 2.999 < last.epsilon <= 3.0


def test_a_run_whose_budget_is_spent_ends_with_the_model_that_it_has_and_says_so() -> None:
    story = begun(noiseMultiplier=1.0, epsilon=8.0)
    while not story.run.ended:
        train(story)

    (end,) = [fact for fact in story.log if isinstance(fact, Completed)]
    assert [each.rounds for each in spent(story) if each] == [1, 2]
    assert end.model.round == 2
    assert end.reason == (
        "the privacy budget is spent: 2 rounds cost epsilon 6.573 at delta 1e-05, and another one would make it more than 8"
    )


def test_a_round_that_failed_when_a_part_of_its_result_was_known_has_cost_as_much_as_any() -> None:
    story = begun(noiseMultiplier=1.0, epsilon=8.0)
    fail(story, after_shards=1)
    train(story)

    (end,) = [fact for fact in story.log if isinstance(fact, Completed)]
    assert [each.rounds for each in spent(story) if each] == [2]
    assert end.reason.startswith("the privacy budget is spent: 2 rounds cost")


def test_a_round_that_failed_before_anything_was_known_has_cost_nothing() -> None:
    story = begun(noiseMultiplier=1.0, epsilon=8.0)
    fail(story, after_shards=0)
    train(story)

    assert [each.rounds for each in spent(story) if each] == [1]
    assert not story.run.ended


def test_the_last_round_of_a_spent_budget_is_evaluated_all_the_same() -> None:
    story = Story(spec={**ROUNDS, "rounds": {"evaluate": True}, "privacy": central(noiseMultiplier=1.0, epsilon=5.0)})
    story.initialize()
    train(story)

    assert story.run.round is not None
    assert story.run.round.opened.task is Task.EVALUATE


def test_shards_are_measured_before_they_are_folded() -> None:
    story = begun()
    story.tell(*(contributed(1, cluster) for cluster in "abc"))
    story.obey()

    first = [action.subject for action in story.due() if isinstance(action, Offer)]
    contribute(story)
    then = [action.subject for action in story.due() if isinstance(action, Offer)]

    assert ({parse_work_on(subject)[0] for subject in first}, {parse_work_on(subject)[0] for subject in then}) == ({"measure"}, {"fold"})


def test_a_clip_that_follows_the_updates_is_in_the_next_rounds_terms() -> None:
    story = begun(adaptive={"quantile": 0.5, "rate": 0.2}, clip=2.0)
    train(story, below=1.0)

    assert story.run.round is not None
    assert story.run.round.opened.noise is not None
    assert story.run.round.opened.noise.clip == pytest.approx(2.0 * 0.904837418)
    train(story, below=0.5)
    assert story.run.round.opened.noise.clip == pytest.approx(2.0 * 0.904837418)
    assert [each.clip for each in spent(story) if each] == pytest.approx([2.0, 2.0 * 0.904837418])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "median": ({"strategy": {"name": "fedmedian"}}, "spec.strategy.name: what fedmedian makes of a cluster's update is not bounded"),
    "krum": ({"strategy": {"name": "krum"}}, "choose fedavg, fedavgm, fedprox, fedadagrad, fedadam or fedyogi"),
    "the app's own server": ({"strategy": {"name": "app"}, "rounds": {}}, "spec.strategy.name: what app makes of"),
    "late updates": ({"rounds": {"carry": 1}}, "spec.rounds.carry: an update that counts in a later round"),
    "too little for a round": (
        {"privacy": central(noiseMultiplier=0.1, epsilon=1.0)},
        f"{WHERE}.central.epsilon: 1 at delta 1e-05 cannot be kept: with a noiseMultiplier of 0.1 the first round costs more (91.82)",
    ),
    "hardly any noise": ({"privacy": central(noiseMultiplier=0.001)}, f"{WHERE}.central.noiseMultiplier: 0.001 promises nothing"),
    "little noise": (
        {"privacy": central(noiseMultiplier=0.01)},
        f"{WHERE}.central.noiseMultiplier: 0.01 promises nothing, epsilon would be more than 10000; raise it",
    ),
    "a budget for which no noise is enough": (
        {"server": {"rounds": 100_000, "minAvailableClients": 2}, "privacy": central(noiseMultiplier=None, epsilon=1e-4, delta=1e-30)},
        f"{WHERE}.central.epsilon: 0.0001 at delta 1e-30 cannot be kept: 100000 rounds would take noise of 3.2e+07 times the clip",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_promised_is_refused_when_the_run_is_submitted(name: str) -> None:
    changes, sentence = REFUSED[name]
    story = Story(spec={**ROUNDS, "privacy": central(), **changes})

    (failed,) = story.stated()

    assert isinstance(failed, Failed)
    assert failed.reason == "BadRequest"
    assert sentence in failed.message


def test_an_aggregator_without_a_secret_refuses_noise_of_its_own_and_says_what_to_set() -> None:
    story = Story(spec={**ROUNDS, "privacy": central()}, has_secret=False)

    assert [fact.message for fact in story.stated() if isinstance(fact, Failed)] == [
        f"{WHERE}.central: this aggregator has no secret to draw noise from; "
        "set FEDPLANE_NOISE_SECRET to a file with one, the same for all aggregators"
    ]


def test_an_aggregator_without_a_secret_does_not_end_a_run_that_others_have_started() -> None:
    story = Story(spec={**ROUNDS, "privacy": central()})
    story.initialize()
    without = Runs(story.core.cut, has_secret=False)

    assert without.decide(story.state, story.now) == story.due()


def test_where_the_accountant_is_not_installed_noise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    for cached in (accounting.epsilon, accounting.multiplier, accounting._accountants):
        cached.cache_clear()

    story = Story(spec={**ROUNDS, "privacy": central()})

    assert [fact.message for fact in story.stated() if isinstance(fact, Failed)] == [
        f"{WHERE}.central: dp-accounting is not installed, without which noise has no price; it is in fedplane[aggregator]"
    ]


def test_noise_of_the_clusters_is_accounted_for_as_well() -> None:
    spec = Spec.model_validate({
        "server": {"rounds": 10, "minAvailableClients": 3},
        "privacy": {"secureAggregation": {}, "differentialPrivacy": {"distributed": {"epsilon": 2.0}}},
    })  # fmt: skip
    budget = budgets.budget_of(spec)

    assert budget == budgets.Budget(multiplier(2.0, 1e-5, 10, "rdp"), 2.0, 1e-5, "rdp")
    assert budgets.exhausted(spec, 9) is None
    assert budgets.exhausted(spec, 10) is not None


def test_a_masked_round_with_noise_costs_as_soon_as_clusters_are_asked_to_take_the_masks_off_even_if_they_come_too_late() -> None:
    story = MaskedStory(noise={"distributed": {"noiseMultiplier": 1.0}})
    story.go_on("revealing")
    late = [story.revealed(cluster) for cluster in "abcd"]
    story.tell(Lapsed(run=RUN, round=1, at=NOW, step="revealing"))
    story.obey()
    story.tell(*late)

    assert (story.number, story.run.costly) == (2, 1)


def test_a_masked_round_costs_nothing_before_that_or_without_noise() -> None:
    noise = {"distributed": {"noiseMultiplier": 1.0}}
    early, cancelled, plain = MaskedStory(noise=noise), MaskedStory(noise=noise), MaskedStory()
    early.go_on("masking")
    cancelled.go_on("masking")
    cancelled.tell(Closed(run=RUN, round=1, at=NOW, reason="the run was cancelled"))
    plain.go_on("revealing")

    assert [budgets.costs(story.current) for story in (early, cancelled, plain)] == [False, False, False]


def test_a_run_without_noise_has_no_budget() -> None:
    spec = Spec()

    assert (budgets.budget_of(spec), budgets.exhausted(spec, 1000)) == (None, None)
