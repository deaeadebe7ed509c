"""Data locality: how much of the run's data is here?

The data claim itself only says where the data is, in words of the cluster's own.
How much there is, a cluster may say in a sibling claim, `<data claim>.samples`, as a number ("12000") or a quantity ("12k").
"""

from decimal import Decimal

from fedplane.scheduler.fleet import Cluster
from fedplane.scheduler.scoring.saturation import saturating
from fedplane.schemas.quantities import parse
from fedplane.schemas.resources import FederatedLearning

__all__ = ["score"]

SAMPLES_HALF = Decimal(1000)
"""A thousand samples score one half: enough to learn something from, few enough that tens of thousands stand out. A judgement."""

UNKNOWN = 0.5
"""A cluster that does not say is taken to have a thousand samples: silence must neither beat plenty nor lose to next to nothing."""


def score(resource: FederatedLearning, cluster: Cluster) -> float:
    """More samples score higher. A claim that is absent or no number counts as silence; a negative number counts as none."""
    try:
        samples = parse(cluster.claims.get(f"{resource.data_claim}.samples", ""))
    except ValueError:
        return UNKNOWN
    return saturating(max(samples, Decimal(0)), SAMPLES_HALF)
