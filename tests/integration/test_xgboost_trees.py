"""Trees of several clusters as one booster: it says what all of them say, whatever kind they are, and what cannot be joined is refused."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from framework_story import PATIENCE_SECONDS, Asking, Case, asking, header_of, layout_of
from machine_story import app_python

from fedplane.aggregator.appending import joined

pytestmark = pytest.mark.app

APP = """
import numpy as np
import pandas as pd
import xgboost

CONFIG = {"kind": "binary", "part": 0, "behave": "well"}
PARAMETERS = {
    "binary": {"objective": "binary:logistic", "subsample": 0.5},
    "classes": {"objective": "multi:softprob", "num_class": 3},
    "forests": {"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 2, "subsample": 0.5, "colsample_bynode": 0.5},
    "codes": {"objective": "binary:logistic"},
    "frames": {"objective": "reg:squarederror"},
    "vectors": {"objective": "multi:softprob", "num_class": 3, "multi_strategy": "multi_output_tree"},
    "targets": {"num_target": 2},
    "dart": {"booster": "dart"},
    "without features": {"num_feature": 0},
}


def initial(config):
    if config["kind"] in ("parameters", "without a score"):
        return {} if config["kind"] == "parameters" else xgboost.Booster({"num_feature": 3})
    told = {"num_feature": 3, "base_score": 0.5, "eta": 0.2, "max_depth": 3, "nthread": 1}
    return xgboost.Booster({**told, **PARAMETERS[config["kind"]]})


def some(config, part):
    random = np.random.default_rng(part)
    rows, level = random.normal(size=(60, 3)), random.integers(0, 4, 60)
    rows[:, 2] = level
    label = rows[:, 0] + np.isin(level, [1, 3])
    if config["kind"] in ("classes", "forests", "vectors"):
        label = np.digitize(label, [0, 1])
    elif config["kind"] != "frames":
        label = label > 0.5
    if config["kind"] == "codes":
        return xgboost.DMatrix(rows, label, feature_types=["q", "q", "c"], enable_categorical=True)
    if config["kind"] == "frames":
        names = "abcd" if config["behave"] == "well" else "bacd"
        kinds = pd.Categorical.from_codes(level, list(names))
        return xgboost.DMatrix(pd.DataFrame({"x": rows[:, 0], "y": rows[:, 1], "kind": kinds}), label, enable_categorical=True)
    return xgboost.DMatrix(rows, label)


def train(model, data, config):
    if config["behave"] == "refresh":
        model.set_param({"process_type": "update", "updater": "refresh", "refresh_leaf": True})
        model.update(some(config, config["part"]), 0)
    elif config["behave"] == "away":
        xgboost.train({"base_score": 0.5}, some(config, config["part"]), 1, xgb_model=model)
    else:
        for _ in range(1 + config["part"]):
            model.update(some(config, config["part"]), model.num_boosted_rounds())
    return {"num-examples": 60}


def evaluate(model, data, config):
    margins = model.predict(some(config, 9), output_margin=True).ravel()
    return {"num-examples": 60, "rounds": model.num_boosted_rounds(), **{f"m{n}": float(margin) for n, margin in enumerate(margins[:60])}}
"""

BY_ITSELF = """
import json, sys
import numpy as np, xgboost
sys.path.insert(0, sys.argv[1])
import federated
said = {}
for kind, path in json.loads(sys.argv[2]).items():
    content = open(path, "rb").read()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header.pop("__metadata__")
    parts = [bytearray(content[end + of["data_offsets"][0] : end + of["data_offsets"][1]]) for of in header.values()]
    rows = federated.some({"kind": kind, "behave": "well"}, 9)
    base, *margins = (xgboost.Booster(model_file=part).predict(rows, output_margin=True).ravel().astype(float) for part in parts)
    said[kind] = list(base + sum(margin - base for margin in margins))[:60]
print(json.dumps(said))
"""
"""What each tensor of a model says by itself, added up. The first has no trees and says the base score."""

KINDS = ("binary", "classes", "forests", "codes", "frames")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/federated.py").write_text(APP)
    return Case("xgboost", tmp_path / "app", app_python(), frozenset(), appends=True)


async def updated(it: Asking, model: Path, **said: object) -> Path:
    asked = it.request("train", model, **said)
    await it.app.ask(asked, PATIENCE_SECONDS)
    return asked / "update.safetensors"


async def first(it: Asking, kind: str) -> Path:
    asked = it.request("initialize", kind=kind)
    await it.app.ask(asked, PATIENCE_SECONDS)
    return asked / "update.safetensors"


def appended(model: Path, updates: list[Path], training_round: int) -> Path:
    """The next model's file, as the aggregator makes it."""
    layouts = [(f"c{number}", layout_of(update)) for number, update in enumerate(updates)]
    flat = b"".join(file.read_bytes()[len(header_of(file)) :] for file in (model, *updates))
    path = model.with_name(f"after-{training_round}.safetensors")
    path.write_bytes(joined(layout_of(model), layouts, training_round) + flat)
    return path


async def test_the_joined_booster_says_what_all_clusters_trees_say_together(case: Case, tmp_path: Path) -> None:
    said, models = {}, {}
    async with asking(case, tmp_path / "home") as it:
        for kind in KINDS:
            model = await first(it, kind)
            for training_round in (1, 2):
                updates = [await updated(it, model, kind=kind, part=part) for part in (0, 1)]
                model = appended(model, updates, training_round)
            models[kind] = str(model)
            said[kind] = (await it.app.ask(it.request("evaluate", model, kind=kind), PATIENCE_SECONDS)).metrics
    added_up = json.loads(await asyncio.to_thread(subprocess.check_output, [app_python(), "-c", BY_ITSELF, case.app, json.dumps(models)]))

    assert {kind: metrics["rounds"] for kind, metrics in said.items()} == dict.fromkeys(KINDS, 6)
    for kind in KINDS:
        assert [said[kind][f"m{n}"] for n in range(60)] == pytest.approx(added_up[kind], abs=1e-5), kind
        assert max(added_up[kind]) - min(added_up[kind]) > 0.2, kind


async def test_what_cannot_be_joined_is_refused_with_what_to_mend(case: Case, tmp_path: Path) -> None:
    async with asking(case, tmp_path / "home") as it:
        made = {
            kind: await it.failure(it.request("initialize", kind=kind))
            for kind in ("parameters", "without features", "without a score", "dart", "targets")
        }
        vectors = await it.failure(it.request("train", await first(it, "vectors"), kind="vectors"))
        model = await first(it, "frames")
        one = await updated(it, model, kind="frames")
        grown, odd = appended(model, [one], 1), await updated(it, model, kind="frames", behave="other names")
        changed = await it.failure(it.request("train", grown, kind="frames", behave="refresh"))
        away = await it.failure(it.request("train", grown, kind="frames", behave="away"))
        differ = await it.failure(it.request("train", appended(model, [one, odd], 2), kind="frames"))
        noise = grown.with_name("noise.safetensors")
        noise.write_bytes(grown.read_bytes()[:-400] + bytes(400))
        broken = await it.failure(it.request("evaluate", noise, kind="frames"))

    assert {kind: reason for kind, (reason, _) in made.items()} == {
        "parameters": "load-failed", "without features": "load-failed", "without a score": "load-failed", "dart": "not-supported",
        "targets": "not-supported",
    }  # fmt: skip
    assert "made a dict; it must make a Booster" in made["parameters"][1]
    assert "cannot travel: " in made["without features"][1] and '"num_feature": 30' in made["without features"][1]
    assert "sets no base_score, and each cluster would take its own" in made["without a score"][1]
    assert "the booster is dart, and only trees of gbtree" in made["dart"][1]
    assert "num_target 2; train a model for each target" in made["targets"][1]
    assert vectors[0] == "not-supported" and "trees with several values in a leaf cannot be appended" in vectors[1]
    assert changed == ("wrong-layout", "train may only add trees to the model, and it has changed trees that it was given")
    assert away[0] == "no-update" and "train it in place: model.update(data, model.num_boosted_rounds())" in away[1]
    assert differ[0] == "wrong-layout" and "the trees of 000002/c1/trees do not go with those before them: categories is" in differ[1]
    assert broken[0] == "wrong-layout" and "tensor '000001/c0/trees' of the federation's model is no model of XGBoost" in broken[1]
