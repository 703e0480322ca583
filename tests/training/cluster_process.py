"""One process of a cluster, which trains a small experiment and writes down the rows it takes.

    python -m tests.training.cluster_process EXPERIMENT.yaml FOLDER ROWS [--resume]

`TF_CONFIG` says which process it is. For every batch that it makes, ROWS, a file of its own, has a
line with the epoch, the step, the replica where there are several, and the rows.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import tensorflow as tf

if os.environ.get("LOGICAL_CPUS"):
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(os.environ["LOGICAL_CPUS"]),
    )

import tfmtl.data.pipeline as pipeline
from tfmtl.cli.main import main

plain = pipeline._gatherer
lock = threading.Lock()


def noting(path, die_after):
    """Of the function that gathers batches, which then tells rows and may end the process."""

    def gatherer(encoded, batch_rows, *rest):
        made = []

        def rows_of(*place):
            rows = batch_rows(*place)
            with lock, path.open("a") as file:
                file.write(json.dumps([*place, rows.tolist()]) + "\n")
            made.append(place)
            if len(made) == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            return rows

        return plain(encoded, rows_of if encoded.is_training else batch_rows, *rest)

    return gatherer


if __name__ == "__main__":
    experiment, folder, rows = sys.argv[1:4]
    pipeline._gatherer = noting(Path(rows), int(os.environ.get("DIE_AFTER", 0)))
    sys.argv[1:] = ["train", experiment, "--output", folder, *sys.argv[4:]]

    main()
