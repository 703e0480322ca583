"""What a worker or a parameter server does until its chief is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import tensorflow as tf

from tfmtl.data.python_function import SharedFunctions, python_function
from tfmtl.training.cluster import Cluster, ClusterError
from tfmtl.training.experiment import Experiment
from tfmtl.training.prepared_data import PreparedData
from tfmtl.training.shared_batches import SharedBatches

_FINISHED, _FAILED = 0, 1
# For the answer to the chief's last call to get there.
_LAST_SECONDS = 0.5
_LONGEST_ANSWER = 10.0


def serve_chief(
    experiment: Experiment, cluster: Cluster, *, data: PreparedData | None = None
) -> None:
    """Serves a chief under `parameter_server` and returns when it has finished its run.

    A chief that is killed says nothing, and its workers and servers wait for it: end them with what
    started them.

    Args:
        experiment: What the chief trains.
        cluster: The cluster, with a worker's or a server's place in it.
        data: A worker's copy of the prepared data; a server needs none.

    Raises:
        ClusterError: If the chief's run ended with an error.
        ValueError: If the place is the chief's, or a worker brings no data.

    Example:
        >>> experiment = Experiment.from_yaml("{dataset: {name: simulator}, model: {name: mmoe}}")
        >>> serve_chief(experiment, Cluster())
        Traceback (most recent call last):
        ...
        ValueError: expected a worker or a server of parameter_server; received 'chief' ...
    """
    if not cluster.only_serves:
        raise ValueError(
            f"expected a worker or a server of parameter_server; received {cluster.job!r} of "
            f"{cluster.strategy!r}: call train"
        )
    if cluster.job == "worker" and data is None:
        raise ValueError(
            "a worker makes batches of its own copy of the data and received none: pass what "
            "prepare_data gives"
        )
    # Kept until the end: the registry of Python functions holds them weakly.
    batches = SharedBatches(experiment, data) if data is not None else None
    told = threading.Event()
    status = [_FINISHED]

    def stop(code: np.int64) -> np.int64:
        status[0] = int(code)
        told.set()
        return code

    functions, _ = _stopper(stop)
    server = tf.distribute.Server(
        cluster.resolver().cluster_spec(),
        job_name=cluster.job,
        task_index=cluster.index,
        protocol="grpc",
        start=True,
    )
    told.wait()
    time.sleep(_LAST_SECONDS)
    del server, functions, batches
    if status[0] != _FINISHED:
        raise ClusterError(
            "the chief's run ended with an error, which the chief tells: start all processes again "
            "with --resume once it is mended"
        )


def stop_servers(cluster: Cluster, *, finished: bool) -> None:
    """Tells all workers and servers of a chief that its run is over.

    Args:
        cluster: The cluster.
        finished: Whether it ended well; they end with an error otherwise.

    Example:
        >>> stop_servers(Cluster("parameter_server", {"worker": (), "ps": ()}), finished=True)
    """
    functions, stop = _stopper(lambda code: code)
    code = tf.constant(_FINISHED if finished else _FAILED, tf.int64)

    def tell(device: str) -> None:
        # Whoever is gone needs not be told.
        with suppress(tf.errors.OpError), tf.device(device):
            stop(code)

    # Servers last: a worker's call may still be on its way to them.
    for device in cluster.devices("worker", "ps"):
        # One that is just coming back may never answer.
        told = threading.Thread(target=tell, args=(device,), daemon=True)
        told.start()
        told.join(_LONGEST_ANSWER)
    del functions


def _stopper(function: Callable) -> tuple[SharedFunctions, Callable]:
    with SharedFunctions("tfmtl/stop") as functions:
        traced = tf.function(
            lambda code: python_function(function, [code], tf.int64)
        ).get_concrete_function(tf.TensorSpec([], tf.int64))
    return functions, traced
