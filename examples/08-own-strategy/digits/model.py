"""Softmax regression in numpy: 7,850 numbers, and no chance, since each step of training takes all digits at once."""

import numpy as np

Arrays = list[np.ndarray]


def initial() -> Arrays:
    """Weights and bias that know nothing."""
    return [np.zeros((784, 10), np.float32), np.zeros(10, np.float32)]


def load(path: str, part: str = "") -> tuple[np.ndarray, np.ndarray]:
    """The images, a row each and between 0 and 1, and what they show; `part` ("train_", "validation_") of a cluster's digits."""
    with np.load(path) as digits:
        images, labels = digits[f"{part}images"], digits[f"{part}labels"]
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels


def train(arrays: Arrays, images: np.ndarray, labels: np.ndarray, *, steps: int, learning_rate: float) -> Arrays:
    """The arrays after as many steps of gradient descent."""
    weights, bias = arrays
    for _ in range(steps):
        scores = images @ weights + bias
        likely = np.exp(scores - scores.max(1, keepdims=True))
        wrong = (likely / likely.sum(1, keepdims=True) - np.eye(10, dtype=np.float32)[labels]) * np.float32(learning_rate / len(labels))
        weights, bias = weights - images.T @ wrong, bias - wrong.sum(0)
    return [weights, bias]


def accuracy(arrays: Arrays, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of digits that are recognised."""
    weights, bias = arrays
    return float(((images @ weights + bias).argmax(1) == labels).mean())
