"""Is a tumour benign? Logistic regression by scikit-learn's `partial_fit`."""

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

CONFIG = {"learning-rate": 0.005, "epochs": 10}


def initial(config):
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=config["learning-rate"])
    model.classes_, model.coef_, model.intercept_ = np.array([0, 1]), np.zeros((1, 30)), np.zeros(1)
    return model


def train(model, data, config):
    measured, benign = load(data, "train")
    for _ in range(config["epochs"]):
        model.partial_fit(measured, benign)
    return {"num-examples": len(benign)}


def evaluate(model, data, config):
    measured, benign = load(data, "validation")
    likely = model.predict_proba(measured)
    return {"num-examples": len(benign), "loss": log_loss(benign, likely, labels=[0, 1]), "accuracy": model.score(measured, benign)}


def load(path: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The measurements, of logarithms and about as large as one, and whether benign, of one part ("train", "validation")."""
    with np.load(path) as shard:
        return np.log(shard[part] + 0.01), shard[f"{part}_benign"]
