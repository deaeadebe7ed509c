"""A line through nothing, and an app that does what it is told, good or bad."""

import os
import time

import numpy as np
from sklearn.linear_model import SGDRegressor

CONFIG = {"behave": "well"}


def initial(config):
    model = SGDRegressor(learning_rate="constant")
    model.coef_, model.intercept_ = np.zeros(3), np.zeros(1)
    return model


def train(model, data, config):
    behave = config["behave"]
    model.partial_fit(np.random.rand(4, 3), np.arange(4.0))
    if behave == "raise":
        raise RuntimeError("no column of that name")
    if behave == "die":
        os.kill(os.getpid(), 9)
    if behave == "hang":
        time.sleep(3600)
    if behave == "diverge":
        model.coef_[0] = np.nan
    if behave == "reshape":
        model.coef_ = model.coef_.reshape(3, 1)
    return {"round": config["round"]} if behave == "forget" else {"round": config["round"], "num-examples": 4}


def evaluate(model, data, config):
    return {"num-examples": 4, "data": data == "/data", "sum": model.coef_.sum()}
