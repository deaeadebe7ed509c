"""Bagging of trees: the next model is the last one and, after it, what each member has added to it.

Trees cannot be averaged. In federated bagging every cluster grows some on top of the model, by its own data,
and the model gets all of them.
How much a tree counts is in its leaves, so it is the app that makes a tree of one cluster among ten count a tenth.
The server's part has no hyper-parameters, and members' weights matter for the means of their metrics alone.

Peers do the same: FedXgbBagging of Flower (https://flower.ai/blog/2023-11-29-federated-xgboost-with-bagging-aggregation/),
and tree-based XGBoost of NVFlare (https://nvflare.readthedocs.io/en/main/apidocs/nvflare.app_opt.xgboost.tree_based.html).
How updates are appended is the business of `appending`.
"""

from collections.abc import Mapping

from fedplane.aggregator.strategies.algebra import Strategy, settle
from fedplane.aggregator.strategies.fedavg import by_examples

__all__ = ["append"]


def append(parameters: Mapping[str, float]) -> Strategy:
    """The updates are appended. One that is late was grown on an older model, whose residuals are no longer those of the present one."""
    settle("append", parameters, {})
    return Strategy(by_examples, counts_late=False, appends=True)
