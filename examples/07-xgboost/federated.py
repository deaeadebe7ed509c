"""Is a tumour benign? Trees that each hospital grows on those of all, by XGBoost."""

import numpy as np
import xgboost
from sklearn.metrics import accuracy_score, log_loss

CONFIG = {"learning-rate": 0.5, "depth": 3, "trees": 2}


def initial(config):
    """No trees yet. A hospital's trees count as one of `clusters` opinions on the same error, hence the division."""
    return xgboost.Booster(
        {
            "objective": "binary:logistic",
            "num_feature": 30,
            "base_score": 0.5,
            "eta": config["learning-rate"] / config["clusters"],
            "max_depth": config["depth"],
            "subsample": 0.8,
        }
    )


def train(model, data, config):
    tumours = load(data, "train")
    for _ in range(config["trees"]):
        model.update(tumours, model.num_boosted_rounds())
    return {"num-examples": tumours.num_row()}


def evaluate(model, data, config):
    tumours = load(data, "validation")
    benign, likely = tumours.get_label(), model.predict(tumours)
    return {
        "num-examples": len(benign),
        "loss": log_loss(benign, likely, labels=[0, 1]),
        "accuracy": accuracy_score(benign, likely > 0.5),
    }


def load(path: str, part: str) -> xgboost.DMatrix:
    """The measurements, and whether benign, of one part ("train", "validation")."""
    with np.load(path) as shard:
        return xgboost.DMatrix(shard[part], shard[f"{part}_benign"])
