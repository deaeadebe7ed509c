"""The app's own server decides what becomes of the clusters' replies; the aggregator opens its rounds, and at most takes a mean for it.

That mean, by examples, is what `spec.fold` asks for: the server then gets one reply instead of one from each cluster.
It is the same to a server whose strategy is linear in the replies, and wrong for one that sorts or compares them.
What such a round is, is in `asking`; the process in which the server runs is no business of the aggregator.
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import Strategy, settle
from fedplane.aggregator.strategies.fedavg import by_examples

__all__ = ["app"]


def app(parameters: Mapping[str, float]) -> Strategy:
    """The weighted mean is what the server gets."""
    settle("app", parameters, {})
    return Strategy(by_examples, counts_late=False)
