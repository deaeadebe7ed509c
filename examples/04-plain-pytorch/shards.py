"""Deal 569 tumours out to three hospitals, unevenly.

    python shards.py OUT_DIR

The data is Breast Cancer Wisconsin (Diagnostic), which comes with scikit-learn: 30 measurements of the nuclei of each tumour's cells,
and whether it is benign. OUT_DIR gets a file per hospital, with tumours to train on and tumours to validate with.
The seed is fixed: everybody gets the same shards.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

SHARES = {"aachen": (0.6, 0.1), "bergen": (0.3, 0.3), "coimbra": (0.1, 0.6)}
"""Which share of the malignant and of the benign tumours each hospital has."""
SEED = 1
VALIDATION_SHARE = 0.25


def main(directory: Path) -> None:
    """Write the shards, and print how many of each kind every hospital has."""
    directory.mkdir(parents=True, exist_ok=True)
    measured, benign = load_breast_cancer(return_X_y=True)
    chance = np.random.default_rng(SEED)
    dealt = {hospital: [] for hospital in SHARES}
    for kind in (0, 1):
        tumours = chance.permutation(np.flatnonzero(benign == kind))
        ends = (np.cumsum([shares[kind] for shares in SHARES.values()]) * len(tumours)).astype(int)
        for hospital, part in zip(SHARES, np.split(tumours, ends[:-1]), strict=True):
            dealt[hospital].append(part[: ends[-1]])
    for hospital, parts in dealt.items():
        tumours = chance.permutation(np.concatenate(parts))
        validation, train = np.split(tumours, [int(len(tumours) * VALIDATION_SHARE)])
        parts_of = {"train": train, "validation": validation}
        kept = {part: measured[of] for part, of in parts_of.items()} | {f"{part}_benign": benign[of] for part, of in parts_of.items()}
        np.savez(directory / f"{hospital}.npz", **kept)
        print(f"{hospital:10}{len(parts[0]):5} malignant{len(parts[1]):5} benign")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python shards.py OUT_DIR")
    main(Path(sys.argv[1]))
