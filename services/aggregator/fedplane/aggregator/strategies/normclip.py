"""Norm clipping: no cluster's change counts for more than a given length, whatever it sends.

    scale[i] = min(1, norm / |update[i] - model|)
    model    = model + (sum of examples[i] * scale[i] * (update[i] - model)) / sum of examples

A difference keeps its direction and loses length. Its norm is taken over the whole model, all tensors of floats together.
How many examples it has is a cluster's own word, and its share of the mean grows with them: clipping does not bound that.
Sources: Sun, Kairouz, Suresh and McMahan, "Can You Really Backdoor Federated Learning?", 2019 (https://arxiv.org/abs/1911.07963), as a
defence against clusters that mean harm;
McMahan, Ramage, Talwar and Zhang, "Learning Differentially Private Recurrent Language Models", 2018 (https://arxiv.org/abs/1710.06963),
where it comes before noise. There is no noise here, and so no differential privacy.
"""

from collections.abc import Mapping

import numpy as np

from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Parameter, Strategy, settle

__all__ = ["normclip"]

PARAMETERS = {"norm": Parameter(3.0, low=1e-9, high=1e9)}
"""No bound suits all models, since norms grow with the number of parameters and of local steps.
3 is a place to begin, and whoever clips has to set it.
Andrew et al. (https://arxiv.org/abs/1905.03871) follow a quantile of the updates' norms instead."""


def normclip(parameters: Mapping[str, float]) -> Strategy:
    """The weighted mean of differences that are at most so long."""
    norm = settle("normclip", parameters, PARAMETERS)["norm"]

    def weigh(cohort: Cohort) -> Coefficients:
        norms = np.sqrt(np.diag(cohort.compared))
        scales = norm / np.maximum(norms, norm)
        examples = np.array([member.weight for member in cohort.members])
        total = float(np.sum(examples))
        return Coefficients(tuple(float(value) for value in examples * scales), total, float(np.sum(examples * (1 - scales))) / total)

    return Strategy(weigh, compares=True)
