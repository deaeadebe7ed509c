"""What is refused when a run with `spec.privacy` is submitted or begins to mask, and which terms are chosen when it is not."""

from typing import Any

import pytest
from aggregator_story import RUN, content, contributed, folded, resource, scheduled
from masked_story import CONTENTS, MaskedStory, sum_folded

from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.terms import chosen
from fedplane.privacy.accounting import multiplier
from fedplane.privacy.distributed import effective_multiplier
from fedplane.privacy.fixed import Fixed
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Aggregated, Failed, Invited
from fedplane.schemas.models import Contents, Model, Task
from fedplane.schemas.privacy_terms import MaskingTerms

SECURE = "spec.privacy.secureAggregation"
NOISE = "spec.privacy.differentialPrivacy"
SUMS = {"fedavg", "fedavgm", "fedprox", "fedadagrad", "fedadam", "fedyogi"}

REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None, str]] = {
    "single updates compared": (
        {"strategy": {"name": "krum"}}, {}, None,
        f"spec.strategy.name: krum has to look at each cluster's update, and with {SECURE} nobody sees more than their sum; "
        "choose fedavg, fedavgm, fedprox, fedadagrad, fedadam or fedyogi",
    ),
    "the app's own server": (
        {"strategy": {"name": "app"}}, {}, None,
        f"spec.strategy.name: with {SECURE} there are no single replies for the app's own server; choose fedavg, or leave that out",
    ),
    "trees": (
        {"strategy": {"name": "append"}, "framework": "xgboost"}, {}, None,
        f"spec.strategy.name: append keeps each cluster's trees, and trees cannot be added up; leave {SECURE} out",
    ),
    "stragglers": (
        {"rounds": {"carry": 1}}, {}, None,
        f"spec.rounds.carry: a mask is good for one round, so with {SECURE} no update counts in a later one; leave it out",
    ),
    "a sum of two": (
        {"server": {"minAvailableClients": 2}}, {}, None,
        f"spec.server.minAvailableClients: 2 is too few for {SECURE}, for in a sum of two each cluster sees the other one's update; "
        "ask for 3 or more",
    ),
    "a quorum of one": (
        {"rounds": {"quorum": 1}}, {}, None,
        f"spec.rounds.quorum: 1 is too few for {SECURE}, for in a sum of two each cluster sees the other one's update; ask for 3 or more",
    ),
    "more than can mask": (
        {"server": {"minAvailableClients": 10**400}}, {}, None,
        f"spec.server.minAvailableClients: {10**400} clusters cannot mask with one another, 120 can; ask for 120 or fewer",
    ),
    "too many": ({"rounds": {"invite": 121}}, {}, None, "spec.rounds.invite: 121 clusters cannot mask with one another, 120 can"),
    "hidden without a bound": (
        {}, {"weights": "hidden"}, None,
        f"{SECURE}.weights: what is hidden has to have a bound; set spec.rounds.weightMax to the most examples that may count",
    ),
    "hidden with a bound that nobody keeps to": (
        {"rounds": {"weightMax": 0.5}}, {"weights": "hidden"}, None,
        "spec.rounds.weightMax: clusters that hide how many examples they have say 1, which is more than 0.5; raise it",
    ),
    "a threshold of one half": (
        {"server": {"minAvailableClients": 4}}, {"threshold": 2}, None,
        f"{SECURE}: if 4 clusters take part in a round: with a threshold of 2 among 3 neighbours a hub could join both secrets "
        "of a cluster; the threshold must be at least 3",
    ),
    "a threshold that more cannot have": (
        {"rounds": {"invite": 5}}, {"threshold": 2}, None,
        f"{SECURE}: if 4 clusters take part in a round: with a threshold of 2 among 3 neighbours a hub could join both secrets "
        "of a cluster; the threshold must be at least 3",
    ),
    "a threshold that nobody may miss": (
        {}, {"threshold": 3}, None,
        f"{SECURE}: if 3 clusters take part in a round: a threshold of 3 cannot be met by 2 neighbours, so that nobody could be missing; "
        "the threshold must be at most 2",
    ),
    "central noise": (
        {}, {}, {"central": {"epsilon": 8}},
        f"{NOISE}.central: the aggregators have to see each update to shorten it, and with {SECURE} they see none; "
        f"let the clusters do it ({NOISE}.distributed)",
    ),
    "colluding ones that see it all": (
        {"server": {"minAvailableClients": 6}}, {}, {"distributed": {"epsilon": 8, "colluding": 2}},
        f"{NOISE}.distributed.colluding: if 4 of 6 clusters can take masks off, at most 1 may work with the hub, not 2; "
        f"raise {SECURE}.threshold, or ask for more clusters",
    ),
    "nobody honest": (
        {}, {}, {"distributed": {"epsilon": 8, "colluding": 3}},
        f"{NOISE}.distributed.colluding: 3 may work with the hub of 3 with which a round has a result, so nobody's noise would be left; "
        "raise spec.server.minAvailableClients or spec.rounds.quorum",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "secure", "noise", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_masked_fails_the_run_at_once_with_what_to_change(spec, secure, noise, message) -> None:
    story = MaskedStory(spec=spec, secure=secure, noise=noise)

    assert story.stated() == [Failed(run=RUN, at=story.now, reason="BadRequest", message=message)]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_the_strategies_that_go_with_masks_are_those_that_need_a_sum_by_examples(name) -> None:
    story = MaskedStory(spec={"strategy": {"name": name}})
    story.tell(scheduled("a", "b", "c"))

    assert [type(fact) is Failed for fact in story.stated()] == [name not in SUMS]


def test_noise_of_single_clusters_without_masks_is_refused() -> None:
    story = MaskedStory(spec={"privacy": {"differentialPrivacy": {"distributed": {"epsilon": 8}}}})
    (failed,) = story.stated()

    assert isinstance(failed, Failed)
    assert failed.message == (
        f"{NOISE}.distributed: one cluster's part of the noise hides nothing, and without {SECURE} each update is seen; "
        f"set that to {{}}, or let the aggregators add the noise ({NOISE}.central)"
    )


def test_noise_for_which_the_bits_have_no_room_is_refused() -> None:
    (failed,) = MaskedStory(secure={"bits": 32}, noise={"distributed": {"noiseMultiplier": 9e5}}).stated()

    assert isinstance(failed, Failed) and failed.reason == "BadRequest"
    assert failed.message.startswith("spec.privacy: the updates of 3 clusters cannot be masked: ")
    assert "and 256 are needed; use 64 bits, less noise or fewer members" in failed.message


def model(*contents: Contents) -> Model:
    shards = content(0).shards
    return content(0).model_copy(update={"shards": shards * len(contents), "contents": contents})


def terms(*contents: Contents, clusters: int = 3, task: Task = Task.TRAIN, **privacy: Any) -> MaskingTerms | None:
    spec = resource(privacy={"secureAggregation": {}, **privacy}, server={"rounds": 4, "minAvailableClients": 3}).spec
    return chosen(spec, model(*contents), task, clusters, 3)


@pytest.mark.parametrize(
    ("contents", "clip", "bits"),
    [
        ([Contents(elements=5, largest=0.01)], 8, 32),
        ([Contents(elements=5, largest=1)], 8, 32),
        ([Contents(elements=5, largest=1.01), Contents(elements=5, largest=3.9)], 32, 32),
        ([Contents(elements=5, largest=4), Contents(elements=5, largest=0, doubles=True)], 32, 64),
        ([Contents(elements=5, largest=1.7e308, doubles=True)], 2.0**1003, 64),
    ],
)
def test_what_the_resource_leaves_open_is_chosen_from_the_model(contents, clip, bits) -> None:
    found = terms(*contents)
    assert found is not None

    assert (found.clip, found.bits, found.deviation) == (clip, bits, None)


def test_what_the_resource_says_is_kept() -> None:
    said = {"clip": 0.5, "bits": 64, "neighbours": 2, "threshold": 2, "stepSeconds": 7}

    assert terms(Contents(elements=5, largest=9), secureAggregation=said) == MaskingTerms(
        clip=0.5, bits=64, weights="public", step_seconds=7, neighbours=2, threshold=2
    )


def test_how_updates_are_masked_is_said_with_the_question_and_to_each_cluster() -> None:
    story = MaskedStory(secure={"neighbours": 2, "stepSeconds": 30})
    story.initialize()
    terms = MaskingTerms(clip=8, bits=32, weights="public", step_seconds=30, neighbours=2)

    assert story.current.opened.masking == terms
    assert [fact.masking for fact in story.log if isinstance(fact, Invited)] == [None, terms, terms, terms, terms]
    assert story.current.opened.model is not None and story.current.opened.model.contents == CONTENTS


def test_initial_models_and_evaluations_are_not_masked() -> None:
    assert [terms(Contents(elements=5, largest=9), task=task) for task in (Task.INITIALIZE, Task.EVALUATE)] == [None, None]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("clusters", [3, 40])
def test_as_many_clusters_as_there_have_to_be_add_all_the_noise_that_is_asked_for(bits, clusters) -> None:
    asked = {"distributed": {"epsilon": 3, "clip": 0.5}}
    found = terms(Contents(elements=10**6, largest=1), clusters=clusters, secureAggregation={"bits": bits}, differentialPrivacy=asked)
    assert found is not None and found.deviation is not None
    wanted = multiplier(3, 1e-5, 4, "rdp")

    assert (found.clip, found.norm_max) == (0.5, 0.5)
    for members in (3, clusters):
        step = Fixed(found.clip, bits, members, found.deviation).step
        assert wanted <= effective_multiplier(found.deviation, 0.5, step, 10**6, 3) < 1.1 * wanted


def test_a_run_whose_clusters_are_too_many_to_mask_fails_when_it_would_begin_to() -> None:
    names = tuple(f"c{number:03}" for number in range(121))
    story = MaskedStory(clusters=names)
    story.initialize()

    assert story.log[-1] == Failed(
        run=RUN, at=story.log[-1].at, reason="BadRequest",
        message="spec.rounds.invite: 121 clusters cannot mask with one another, 120 can; invite fewer",
    )  # fmt: skip


def test_a_run_whose_model_nobody_has_looked_into_fails_when_it_would_begin_to_mask() -> None:
    story = MaskedStory()
    story.tell(scheduled("a", "b", "c"))
    story.obey()
    story.tell(contributed(0, "a"))
    story.obey()
    story.tell(sum_folded(0, 0, "a"), *(folded(0, shard, "a") for shard in (1, 2)))
    result, failed = story.obey()

    assert isinstance(result, Aggregated) and isinstance(failed, Failed)
    assert failed.message == "nobody has said what numbers the model has, on which masks depend; was it made by an older aggregator?"


def test_terms_that_cannot_be_had_are_refused_with_the_number_of_clusters() -> None:
    with pytest.raises(BadInput, match=r"if 4 clusters take part in a round: with a threshold of 2"):
        terms(Contents(elements=5, largest=9), clusters=4, secureAggregation={"threshold": 2})
