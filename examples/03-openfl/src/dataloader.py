"""1,797 handwritten digits of 8x8 pixels, which come with scikit-learn. A data path is a shard's number, as in OpenFL's own workspaces."""

import numpy as np
from openfl.federated import DataLoader
from sklearn.datasets import load_digits

VALIDATED_SHARE = 5
"""Every fifth digit of a shard is kept for validation."""


class DigitsInMemory(DataLoader):
    """One collaborator's digits."""

    def __init__(self, data_path, collaborator_count, batch_size, **kwargs):
        super().__init__(**kwargs)
        pixels, labels = load_digits(return_X_y=True)
        shard = slice(int(data_path) - 1, None, collaborator_count)
        pixels, labels = (pixels[shard] / 16).astype(np.float32), labels[shard]
        validates = np.arange(len(labels)) % VALIDATED_SHARE == 0
        self.train = pixels[~validates], labels[~validates]
        self.valid = pixels[validates], labels[validates]
        self.batch_size = batch_size

    def get_feature_shape(self):
        return self.train[0].shape[1:]

    def get_train_loader(self, **kwargs):
        return self._batches(*self.train)

    def get_valid_loader(self):
        return self._batches(*self.valid)

    def get_train_data_size(self):
        return len(self.train[1])

    def get_valid_data_size(self):
        return len(self.valid[1])

    def _batches(self, pixels, labels):
        for begin in range(0, len(labels), self.batch_size):
            yield pixels[begin : begin + self.batch_size], labels[begin : begin + self.batch_size]
