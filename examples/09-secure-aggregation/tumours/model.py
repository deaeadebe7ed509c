"""Is a tumour benign? Logistic regression in numpy: 31 numbers, and no chance, since each step of training takes all tumours at once."""

import numpy as np

STEPS, LEARNING_RATE = 50, 0.05


def load(path: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The measurements, of logarithms and with a last one that is 1, and whether benign, of one part ("train", "validation")."""
    with np.load(path) as shard:
        measured, benign = np.log(shard[part] + 0.01), shard[f"{part}_benign"]
    return np.column_stack([measured, np.ones(len(benign))]), benign


def train(weights: np.ndarray, measured: np.ndarray, benign: np.ndarray) -> np.ndarray:
    """The weights after some steps of gradient descent."""
    for _ in range(STEPS):
        weights = weights - LEARNING_RATE * measured.T @ (likely(weights, measured) - benign) / len(benign)
    return weights


def judge(weights: np.ndarray, measured: np.ndarray, benign: np.ndarray) -> tuple[float, float]:
    """The mean loss, and the share of tumours that are recognised."""
    said = likely(weights, measured)
    loss = -np.log(np.where(benign, said, 1 - said).clip(1e-9)).mean()
    return float(loss), float(((said > 0.5) == benign).mean())


def likely(weights: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """How likely each tumour is benign."""
    return 1 / (1 + np.exp(-measured @ weights))
