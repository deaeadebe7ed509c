"""Arrays of many kinds, and a task runner that does what it is told, good or bad."""

import os
import time

import numpy as np
from openfl.federated import DataLoader, TaskRunner
from openfl.utilities import TensorKey


class Data(DataLoader):
    def __init__(self, data_path):
        self.path, self.examples = data_path, 4

    def get_feature_shape(self):
        return None

    def get_train_data_size(self):
        return self.examples

    def get_valid_data_size(self):
        return self.examples


class Runner(TaskRunner):
    def get_tensor_dict(self, with_opt_vars):
        kinds = {kind: np.ones((), kind) for kind in ("float64", "float16", "int64", "uint8")}  # OpenFL itself holds other kinds out
        return {"weight": np.zeros((2, 3), np.float32), **kinds}

    def initialize_tensorkeys_for_functions(self, **kwargs):
        pass

    def get_required_tensorkeys_for_function(self, function, **kwargs):
        return [(name, "GLOBAL", 0, False, ("model",)) for name in self.get_tensor_dict(False)]

    def step(self, col_name, round_num, input_tensor_dict, behave, **kwargs):
        arrays = dict(input_tensor_dict)
        arrays["weight"] = arrays["weight"] + np.random.default_rng(round_num).random((2, 3), np.float32)
        if behave == "raise":
            raise RuntimeError("no column of that name")
        if behave == "die":
            os.kill(os.getpid(), 9)
        if behave == "hang":
            time.sleep(3600)
        if behave == "diverge":
            arrays["float16"] = np.full((), np.nan, np.float16)
        if behave == "reshape":
            arrays["weight"] = arrays["weight"].reshape(3, 2)
        if behave == "forget":
            self.data_loader.examples = 0
        said = {TensorKey("round", col_name, round_num, True, ("metric",)): np.array(round_num + 1)}  # OpenFL counts from 0
        return said | {TensorKey(name, col_name, round_num, False, ("trained",)): array for name, array in arrays.items()}, {}

    def validate(self, col_name, round_num, input_tensor_dict, apply, **kwargs):
        said = {"data": self.data_loader.path == "/data", "sum": input_tensor_dict["weight"].sum()}
        return {TensorKey(name, col_name, round_num, True, ("metric",)): np.array(value) for name, value in said.items()}, {}
