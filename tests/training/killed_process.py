"""Trains a small experiment, or goes on with it, and kills its own process at one moment.

    python -m tests.training.killed_process FOLDER MODEL MOMENT EPOCH STEPS [OVERRIDE ...]

The moment is in the epoch, counted from 0, after that many steps: `step`, before anything is saved;
`save`, when half of the checkpoint's bytes are written; `unrecorded`, when all are and the folder
does not say so yet. `best` is when an epoch ends and is saved as the best, not yet as the last.
"""

import os
import resource
import signal
import sys
from pathlib import Path

import tensorflow as tf

from tests.training.small_experiment import experiment
from tfmtl.training import TrainingState, train


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def die_when_files_reach(size):
    # The kernel ends a process whose file outgrows the limit; Python ignores that by default.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class Killed(TrainingState):
    """Dies at the moment."""

    def on_train_batch_end(self, batch, logs=None):
        done = self._first_step + batch + 1
        if moment == "step" and (int(self.epochs_done), done) == (epoch, steps):
            die()
        super().on_train_batch_end(batch, logs)

    def _save_last(self):
        position = int(self.epochs_done), int(self.steps_done)
        if moment == "best" and position == (epoch + 1, 0):
            die()
        if moment == "save" and position == (epoch, steps):
            die_when_files_reach(self._folders["last"].size // 2)
        if moment == "unrecorded" and position == (epoch, steps):
            tf.train.CheckpointManager._record_state = die
        super()._save_last()


if __name__ == "__main__":
    folder, model, moment = sys.argv[1:4]
    epoch, steps = map(int, sys.argv[4:6])
    # The module of that name, not the function that the package offers under it.
    sys.modules["tfmtl.training.train"].TrainingState = Killed
    train(experiment(model, *sys.argv[6:]), Path(folder), resume=True)
