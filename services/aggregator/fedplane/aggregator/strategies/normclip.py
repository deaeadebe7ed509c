"""Norm clipping: no cluster's change counts for more than a given length, whatever it sends.

    scale[i] = min(1, norm / |update[i] - model|)
    model    = model + (sum of examples[i] * scale[i] * (update[i] - model)) / sum of examples

A difference keeps its direction and loses length. Its norm is taken over the whole model, all tensors of floats together.
How many examples it has is a cluster's own word, and its share of the mean grows with them: clipping does not bound that.
Sources: Sun, Kairouz, Suresh and McMahan, "Can You Really Backdoor Federated Learning?", 2019 (https://arxiv.org/abs/1911.07963), as a
defence against clusters that mean harm;
McMahan, Ramage, Talwar and Zhang, "Learning Differentially Private Recurrent Language Models", 2018 (https://arxiv.org/abs/1710.06963),
where it is called flat clipping and comes before noise. There is no noise here, and so no differential privacy.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fedplane.aggregator.strategies.algebra import Coefficients, Member, Parameter, Strategy, Vector, settle

__all__ = ["normclip"]

PARAMETERS = {"norm": Parameter(3.0, low=1e-9, high=1e9)}
"""What Sun et al. find to stop attackers on EMNIST at hardly any cost in accuracy.
No bound suits all models: Andrew et al. (https://arxiv.org/abs/1905.03871) say so, and take the median norm of honest updates."""


def normclip(parameters: Mapping[str, float]) -> Strategy:
    """The weighted mean of differences that are at most so long."""
    norm = settle("normclip", parameters, PARAMETERS)["norm"]

    def weigh(members: Sequence[Member], products: Vector | None) -> Coefficients:
        assert products is not None, "a strategy that compares is given the products"
        norms = np.sqrt(np.diag(products))
        scales = norm / np.maximum(norms, norm)
        examples = np.array([member.weight for member in members])
        total = float(np.sum(examples))
        return Coefficients(tuple(float(value) for value in examples * scales), total, float(np.sum(examples * (1 - scales))) / total)

    return Strategy(weigh, compares=True)
