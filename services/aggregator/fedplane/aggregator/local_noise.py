"""What `spec.privacy.differentialPrivacy.local` means for a run: what clusters are told, and what cannot be done.

The noise is added in each cluster, by the app's own training, so all that is done here is to say how much.
What becomes of it there is the business of `fedplane.collaborator.frameworks.private`.
"""

from collections.abc import Iterator

from fedplane.schemas.models import Task
from fedplane.schemas.privacy import LOCAL_FRAMEWORK, LocalPrivacy
from fedplane.schemas.privacy_terms import LocalTerms
from fedplane.schemas.resources import Spec

__all__ = ["contradictions", "terms"]


def terms(spec: Spec, task: Task) -> LocalTerms | None:
    """The noise with which an app is to do the task; None if it is to do it without."""
    local = _local(spec)
    if local is None or task is not Task.TRAIN:
        return None
    return LocalTerms(
        epsilon=local.epsilon, delta=local.delta, multiplier=local.noise_multiplier, clip=local.clip, rounds=spec.server.rounds
    )


def contradictions(spec: Spec) -> Iterator[str]:
    """What of the resource does not go together with noise in training."""
    if _local(spec) is not None and spec.framework != LOCAL_FRAMEWORK:
        yield (
            f"spec.privacy.differentialPrivacy.local: apps of {spec.framework} cannot be trained with it, those of {LOCAL_FRAMEWORK} can; "
            "write the app for it, or leave this out"
        )


def _local(spec: Spec) -> LocalPrivacy | None:
    noise = spec.privacy.differential_privacy
    return None if noise is None else noise.local
