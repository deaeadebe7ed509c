"""Mistake every digit for the next one, as a slip in a table would: python mislabel.py FILE.npz"""

import sys

import numpy as np

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python mislabel.py FILE.npz")
    with np.load(sys.argv[1]) as digits:
        kept = dict(digits)
    mistaken = {name: (kept[name] + 1) % 10 for name in kept if name.endswith("labels")}
    np.savez_compressed(sys.argv[1], **kept | mistaken)
