"""Softmax regression with momentum, in numpy: a task runner as OpenFL describes it, for a framework that OpenFL has none for."""

import numpy as np
from openfl.federated import TaskRunner
from openfl.utilities import TensorKey

DIGITS = 10


class SoftmaxRegression(TaskRunner):
    """The model, its optimizer, and the two tasks that the plan names."""

    def __init__(self, learning_rate, momentum, **kwargs):
        super().__init__(**kwargs)
        self.learning_rate, self.momentum = learning_rate, momentum
        self.weights = {
            "weight": np.zeros((*self.feature_shape, DIGITS), np.float32),
            "bias": np.zeros(DIGITS, np.float32),
        }
        self.required = {}
        self.reset_opt_vars()

    def train_task(self, col_name, round_num, input_tensor_dict, epochs=1, **kwargs):
        """Train; the loss and the model's tensors."""
        self.rebuild(input_tensor_dict)
        for _ in range(epochs):
            losses = [self.step(pixels, labels) for pixels, labels in self.data_loader.get_train_loader()]
        trained = self.get_tensor_dict(with_opt_vars=self.opt_treatment == "CONTINUE_GLOBAL")
        loss = TensorKey("loss", col_name, round_num, True, ("metric",))
        if self.opt_treatment == "CONTINUE_GLOBAL":
            self.initialize_tensorkeys_for_functions(with_opt_vars=True)
        sent = {TensorKey(name, col_name, round_num, False, ("trained",)): tensor for name, tensor in trained.items()}
        return {loss: np.array(np.mean(losses)), **sent}, {}

    def validate_task(self, col_name, round_num, input_tensor_dict, apply, **kwargs):
        """Validate; the accuracy."""
        self.set_tensor_dict(input_tensor_dict, with_opt_vars=False)
        right = [(self.chances(pixels).argmax(1) == labels) for pixels, labels in self.data_loader.get_valid_loader()]
        suffix = "validate_local" if apply == "local" else "validate_agg"
        return {TensorKey("accuracy", col_name, round_num, True, ("metric", suffix)): np.concatenate(right).mean()}, {}

    def rebuild(self, tensors):
        """Take the model, and treat the optimizer as the plan says."""
        if self.opt_treatment == "RESET":
            self.reset_opt_vars()
        self.set_tensor_dict(tensors, with_opt_vars="velocity.weight" in tensors)

    def step(self, pixels, labels):
        """One step of gradient descent; the loss before it."""
        chances = self.chances(pixels)
        loss = -np.log(chances[np.arange(len(labels)), labels] + 1e-9).mean()
        chances[np.arange(len(labels)), labels] -= 1
        gradients = {"weight": pixels.T @ chances / len(labels), "bias": chances.mean(0)}
        for name, gradient in gradients.items():
            self.velocity[name] = self.momentum * self.velocity[name] - self.learning_rate * gradient
            self.weights[name] = self.weights[name] + self.velocity[name]
        return loss

    def chances(self, pixels):
        """What the model takes each digit for."""
        scores = pixels @ self.weights["weight"] + self.weights["bias"]
        raised = np.exp(scores - scores.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)

    def get_tensor_dict(self, with_opt_vars=False):
        velocity = {f"velocity.{name}": tensor for name, tensor in self.velocity.items()}
        return {**self.weights, **(velocity if with_opt_vars else {})}

    def set_tensor_dict(self, tensor_dict, with_opt_vars=False):
        self.weights = {name: np.array(tensor_dict[name]) for name in self.weights}
        if with_opt_vars:
            self.velocity = {name: np.array(tensor_dict[f"velocity.{name}"]) for name in self.weights}

    def reset_opt_vars(self):
        self.velocity = {name: np.zeros_like(tensor) for name, tensor in self.weights.items()}

    def initialize_tensorkeys_for_functions(self, with_opt_vars=False):
        model = [(name, "GLOBAL", 0, False, ("model",)) for name in self.weights]
        trained = [(name, "LOCAL", 0, False, ("trained",)) for name in self.weights]
        optimizer = [(f"velocity.{name}", "GLOBAL", 0, False, ("model",)) for name in self.weights if with_opt_vars]
        self.required = {"train_task": model + optimizer, "global": model, "local": trained}

    def get_required_tensorkeys_for_function(self, func_name, **kwargs):
        return self.required[kwargs.get("apply", func_name)]
