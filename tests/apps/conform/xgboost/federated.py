"""Trees on three features, and an app that does what it is told, good or bad."""

import os
import time

import numpy as np
import xgboost

CONFIG = {"behave": "well"}


def initial(config):
    return xgboost.Booster({"num_feature": 3, "base_score": 0.5, "subsample": 0.5, "nthread": 1})


def train(model, data, config):
    behave = config["behave"]
    if behave == "diverge":
        model.set_param({"eta": float("inf")})
    if behave == "reshape":
        model.set_param({"base_score": 0.25})
    model.update(xgboost.DMatrix(np.random.rand(40, 3), np.arange(40.0)), model.num_boosted_rounds())
    if behave == "raise":
        raise RuntimeError("no column of that name")
    if behave == "die":
        os.kill(os.getpid(), 9)
    if behave == "hang":
        time.sleep(3600)
    return {"round": config["round"]} if behave == "forget" else {"round": config["round"], "num-examples": 4}


def evaluate(model, data, config):
    return {"num-examples": 4, "data": data == "/data", "sum": model.num_boosted_rounds()}
