"""Trains into the folder given as argument until it is killed in the second epoch."""

import sys
import time
from pathlib import Path

from tests.training.small_experiment import experiment
from tfmtl.training import ValidationMetrics, train

STEPS = 2


class _Stuck(ValidationMetrics):
    epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, STEPS):
            print("stuck", flush=True)
            time.sleep(600)


if __name__ == "__main__":
    # The module of that name, not the function that the package offers under it.
    sys.modules["tfmtl.training.train"].ValidationMetrics = _Stuck
    train(experiment("mogenet"), Path(sys.argv[1]))
