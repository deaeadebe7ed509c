"""Noise in training: who is told of it, and which apps cannot have it."""

from typing import Any

from aggregator_story import RUN, Story

from fedplane.schemas.facts import Failed, Invited
from fedplane.schemas.models import Task
from fedplane.schemas.privacy_terms import LocalTerms


def story(framework: str = "torch", **local: Any) -> Story:
    privacy = {"differentialPrivacy": {"local": local}} if local else {}
    return Story(spec={"framework": framework, "server": {"rounds": 4, "minAvailableClients": 2}, "privacy": privacy})


def terms(story: Story) -> dict[Task, LocalTerms | None]:
    story.initialize()
    return {fact.task: fact.local_privacy for fact in story.log if isinstance(fact, Invited)}


def test_clusters_are_told_of_the_noise_when_they_train_and_for_how_many_rounds_it_has_to_do() -> None:
    assert terms(story(epsilon=3)) == {Task.INITIALIZE: None, Task.TRAIN: LocalTerms(epsilon=3, delta=1e-5, clip=1, rounds=4)}
    assert terms(story(epsilon=3, delta=1e-3, noiseMultiplier=1.1, clip=2))[Task.TRAIN] == LocalTerms(
        epsilon=3, delta=1e-3, multiplier=1.1, clip=2, rounds=4
    )
    assert terms(story())[Task.TRAIN] is None


def test_an_app_that_cannot_be_trained_with_noise_is_refused_when_it_is_submitted() -> None:
    it = story("flower", epsilon=3)
    (failed,) = it.stated()

    said = "apps of flower cannot be trained with it, those of torch can; write the app for it, or leave this out"
    message = f"spec.privacy.differentialPrivacy.local: {said}"
    assert failed == Failed(run=RUN, at=it.now, reason="BadRequest", message=message)
