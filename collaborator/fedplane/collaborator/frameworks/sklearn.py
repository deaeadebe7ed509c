"""scikit-learn's linear models: what travels is the estimator's `coef_` and `intercept_`; see `functions` for the app's file.

An estimator has these only when it has seen data, and `initial` has none. So it sets them itself, and for a classifier the classes:

    def initial(config):
        model = SGDClassifier(learning_rate="constant", eta0=0.01)
        model.classes_, model.coef_, model.intercept_ = np.array([0, 1]), np.zeros((1, 30)), np.zeros(1)
        return model

Training then goes on from the federation's model by `partial_fit`, or by `fit` of an estimator with `warm_start=True`.
What the estimator counts besides, the steps of a learning rate that falls, begins anew in each round.
This module needs nothing of scikit-learn but these attributes. Tried with scikit-learn 1.9.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import Unanswerable
from .answers import Tensors, without_bfloat16
from .functions import FunctionsApp, Translation, open_functions

__all__ = ["open_app"]

_LEARNT = ("coef_", "intercept_")
"""What a linear model learns, whatever its loss."""


def open_app(directory: Path) -> FunctionsApp:
    """The app of the directory. Raises Unanswerable."""
    return open_functions(directory, Translation(_take, _put))


def _take(estimator: Any) -> Tensors:
    lacking = [name for name in _LEARNT if not hasattr(estimator, name)]
    if lacking:
        said = f"the {type(estimator).__name__} that initial in federated.py made has no {' and no '.join(lacking)}"
        raise Unanswerable("load-failed", f"{said}; use a linear model, and let initial set coef_ and intercept_ to zeros of their shapes")
    return {name: np.asarray(getattr(estimator, name)) for name in _LEARNT}


def _put(estimator: Any, tensors: Tensors) -> None:
    for name, tensor in without_bfloat16(tensors).items():
        setattr(estimator, name, np.array(tensor))
