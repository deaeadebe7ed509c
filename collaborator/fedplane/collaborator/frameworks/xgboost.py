"""XGBoost: `initial` makes a `Booster`, and what travels are the trees that training has added to it; see `functions` for the app's file.

    def initial(config):
        return xgboost.Booster({"objective": "binary:logistic", "eta": 0.3 / config["clusters"], "num_feature": 30, "base_score": 0.5})

    def train(model, data, config):
        model.update(measured(data), model.num_boosted_rounds())
        return {"num-examples": 400}

Trees cannot be averaged, so the run's strategy appends. The federation's model is a tensor of what `initial` made,
and one of each cluster's trees of each round; each of them is a model in XGBoost's own binary form (UBJSON), by itself.
Here they become one booster again. XGBoost has no function for that, so it is done in its JSON form, which keeps every bit of a number:
trees, the class that each is about, and the boosting rounds they belong to, one after the other. Leaves stay what they are.
Hence the joined booster's margin is the base score and the sum of what all trees say.

Two parameters must be said that XGBoost otherwise takes from data, as `initial` has none, and clusters would take others each:
how many features there are, and the base score.
XGBoost has no generator that could be seeded, but a parameter of each booster, so that is drawn from Python's.
What arrives is given to XGBoost's parser, which reads numbers and names. Tried with XGBoost 2.1, 3.0 and 3.2.
"""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from . import Unanswerable
from .answers import Tensors
from .functions import FunctionsApp, Translation, open_functions

__all__ = ["open_app"]

_TREES = "trees"
"""The tensor of a model or an update."""

_GROWS = "gbtree"
"""The booster whose trees never change once they are grown."""

_OF_DATA = ("feature_names", "feature_types")
_CATEGORIES = "cats"
"""What a booster knows of features besides their number, once it has seen data. The last, since 3.1, is about a data frame's categories."""

_SINGLE = ("0", "1")
"""The sizes of a leaf that is one value; XGBoost has said it in both ways."""

_SEED_BITS = 31
"""XGBoost's seed is a signed number."""

_MEND = 'make it as in xgboost.Booster({"objective": "binary:logistic", "num_feature": 30, "base_score": 0.5})'


def open_app(directory: Path) -> FunctionsApp:
    """The app of the directory. Raises Unanswerable."""
    return open_functions(directory, Translation(_take, _put, added=_added))


def _take(booster: Any) -> Tensors:
    """What `initial` made."""
    if not isinstance(booster, xgboost.Booster):
        raise Unanswerable("load-failed", f"initial in federated.py made a {type(booster).__name__}; it must make a Booster: {_MEND}")
    try:
        document = _document(booster)
    except xgboost.core.XGBoostError as error:
        said = f"the Booster that initial in federated.py made cannot travel: {_said(error)}"
        raise Unanswerable("load-failed", f"{said}; {_MEND}") from error
    if _kind(document) != _GROWS:
        said = f"the booster is {_kind(document)}, and only trees of {_GROWS}, which never change, can be appended"
        raise Unanswerable("not-supported", said)
    told = document["learner"]["learner_model_param"]
    if told["num_target"] != "1":
        raise Unanswerable("not-supported", f"the booster has num_target {told['num_target']}; train a model for each target")
    if not _model(document)["trees"] and told["boost_from_average"] == "1":
        raise Unanswerable("load-failed", f"initial in federated.py sets no base_score, and each cluster would take its own; {_MEND}")
    return {_TREES: _bytes(booster)}


def _put(booster: xgboost.Booster, tensors: Tensors) -> None:
    booster.load_model(_json(_joined(tensors)))
    booster.set_param({"seed": random.getrandbits(_SEED_BITS)})


def _added(booster: xgboost.Booster, tensors: Tensors) -> Tensors:
    """The trees that the booster has more than these tensors, as a model of their own. A slice of the booster forgets categories."""
    before, after = _joined(tensors), _document(booster)
    given, grown = _model(before), _model(after)
    trees, rounds = len(given["trees"]), len(given["iteration_indptr"]) - 1
    if why := _unlike(before, after):
        raise Unanswerable("wrong-layout", f"train may only add trees to the model: {why}")
    if json.dumps(grown["trees"][:trees]) != json.dumps(given["trees"]):
        raise Unanswerable("wrong-layout", "train may only add trees to the model, and it has changed trees that it was given")
    if len(grown["trees"]) == trees:
        mend = "train it in place: model.update(data, model.num_boosted_rounds())"
        raise Unanswerable("no-update", f"train has added no tree to the model that it was given; {mend}")
    grown["trees"] = [{**tree, "id": number} for number, tree in enumerate(grown["trees"][trees:])]
    grown["tree_info"] = grown["tree_info"][trees:]
    grown["iteration_indptr"] = [end - trees for end in grown["iteration_indptr"][rounds:]]
    grown["gbtree_model_param"]["num_trees"] = str(len(grown["trees"]))
    if any(tree["tree_param"]["size_leaf_vector"] not in _SINGLE for tree in grown["trees"]):
        mend = "leave out multi_strategy, and each class gets trees of its own"
        raise Unanswerable("not-supported", f"trees with several values in a leaf cannot be appended; {mend}")
    if not all(map(_is_finite, grown["trees"])):
        raise Unanswerable("not-finite", "the trees have leaves that are infinite or not a number; has training diverged?")
    return {_TREES: _bytes(xgboost.Booster(model_file=_json(after)))}


def _is_finite(tree: dict[str, Any]) -> bool:
    """Whether the leaves are, whose values are where inner nodes have their conditions."""
    values = tree["split_conditions"]
    return all(math.isfinite(values[node]) for node, child in enumerate(tree["left_children"]) if child < 0)


def _joined(tensors: Tensors) -> dict[str, Any]:
    """The document of one booster with the trees of all tensors, in their order."""
    (first, begun), *added = tensors.items()
    whole = _parsed(first, begun)
    for name, tensor in added:
        part = _parsed(name, tensor)
        if why := _unlike(whole, part):
            raise Unanswerable("wrong-layout", f"the trees of {name} do not go with those before them: {why}; do all clusters run one app?")
        _append(whole, part)
    return whole


def _parsed(name: str, tensor: np.ndarray[Any, np.dtype[Any]]) -> dict[str, Any]:
    try:
        document = _document(xgboost.Booster(model_file=bytearray(tensor.tobytes())))
    except xgboost.core.XGBoostError as error:
        raise Unanswerable("wrong-layout", f"tensor {name!r} of the federation's model is no model of XGBoost: {_said(error)}") from error
    if _kind(document) != _GROWS:
        raise Unanswerable("wrong-layout", f"tensor {name!r} of the federation's model is of the booster {_kind(document)}, not {_GROWS}")
    return document


def _said(error: xgboost.core.XGBoostError) -> str:
    """XGBoost's own words, without the time, the line of its code and the stack."""
    return re.sub(r"^\[\S*\] \S+: ", "", str(error).partition("\n")[0])


def _append(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Give the first document the second one's trees as well. What is known of features only where there is data comes with the first."""
    into, added = _model(whole), _model(part)
    before = len(into["trees"])
    into["trees"] += [{**tree, "id": tree["id"] + before} for tree in added["trees"]]
    into["tree_info"] += added["tree_info"]
    into["iteration_indptr"] += [before + end for end in added["iteration_indptr"][1:]]
    into["gbtree_model_param"]["num_trees"] = str(len(into["trees"]))
    if not before:
        whole["learner"].update({name: part["learner"][name] for name in _OF_DATA})
        into.update({name: added[name] for name in added.keys() & {_CATEGORIES}})


def _unlike(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """What makes trees of the one document mean something else in the other; None if nothing does."""
    if _kind(after) != _GROWS:
        return f"the booster is {_kind(after)}, and was {_GROWS}"
    seen = bool(_model(before)["trees"])
    ours, theirs = _meaning(before, seen), _meaning(after, seen)
    wrong = next((name for name in ours if ours[name] != theirs[name]), None)
    return None if wrong is None else f"{wrong} is {_shown(theirs[wrong])}, and was {_shown(ours[wrong])}"


def _meaning(document: dict[str, Any], seen: bool) -> dict[str, Any]:
    """What trees of one model have in common; of the features, if there were any data to see."""
    learner, model = document["learner"], _model(document)
    said = {
        "objective": learner["objective"]["name"],
        **learner["learner_model_param"],
        "base_score": _score(learner["learner_model_param"]["base_score"]),
        "num_parallel_tree": model["gbtree_model_param"]["num_parallel_tree"],
    }
    return {**said, **{name: learner[name] for name in _OF_DATA}, "categories": model.get(_CATEGORIES)} if seen else said


def _score(said: str) -> Any:
    """Since 3.1 it is a list of one for each class, or of one for all."""
    scores = json.loads(said if said.startswith("[") else f"[{said}]")
    return scores[0] if len(set(scores)) == 1 else scores


def _shown(value: Any) -> str:
    return json.dumps(value)[:200]


def _kind(document: dict[str, Any]) -> str:
    return str(document["learner"]["gradient_booster"]["name"])


def _model(document: dict[str, Any]) -> dict[str, Any]:
    """What a booster of that kind has grown."""
    model: dict[str, Any] = document["learner"]["gradient_booster"]["model"]
    return model


def _document(booster: xgboost.Booster) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(booster.save_raw("json"))
    return document


def _json(document: dict[str, Any]) -> bytearray:
    return bytearray(json.dumps(document).encode())


def _bytes(booster: xgboost.Booster) -> np.ndarray[Any, np.dtype[Any]]:
    return np.frombuffer(booster.save_raw("ubj"), np.uint8)
