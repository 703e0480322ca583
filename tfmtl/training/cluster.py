"""A process's place among those that train one model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import tensorflow as tf

from tfmtl.training.table_partitioner import TablePartitioner

Strategy = Literal["none", "mirrored", "multi_worker", "parameter_server"]

_CHIEF, _WORKER, _SERVER = "chief", "worker", "ps"
_JOBS = {"multi_worker": (_CHIEF, _WORKER), "parameter_server": (_CHIEF, _WORKER, _SERVER)}
_EXAMPLE = (
    '{"cluster": {"chief": ["a:2222"], "worker": ["b:2222"], "ps": ["c:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


class ClusterError(RuntimeError):
    """A cluster is not described as it must be, or a process of it is gone."""


@dataclass(frozen=True)
class Cluster:
    """Which processes train one model, and which of them this one is.

    Args:
        strategy: `none`; `mirrored`, over the accelerators of this process; `multi_worker`, over
            processes that hold the same weights and share out the rows of every step;
            `parameter_server`, a chief that hands out steps to workers, with the weights on
            servers.
        addresses: Addresses of the processes of each job.
        job: This process's job: `chief`, `worker` or `ps`.
        index: Its number in the job.

    Example:
        >>> cluster = Cluster("multi_worker", {"worker": ("a:1", "b:1")}, "worker", 1)
        >>> cluster.is_chief, cluster.only_serves
        (False, False)
    """

    strategy: Strategy = "none"
    addresses: dict[str, tuple[str, ...]] | None = None
    job: str = _CHIEF
    index: int = 0

    @classmethod
    def from_environment(cls, strategy: Strategy) -> Cluster:
        """Reads `TF_CONFIG`, for a strategy of several processes.

        Under `multi_worker` call it before TensorFlow computes anything: it joins the others.

        Args:
            strategy: The experiment's `training.strategy`.

        Raises:
            ClusterError: If `TF_CONFIG` is absent, is not JSON, or describes no cluster for the
                strategy with this process in it.
        """
        if strategy not in _JOBS:
            return cls(strategy)
        text = os.environ.get("TF_CONFIG", "")
        try:
            config = json.loads(text)
            given = {job: tuple(places) for job, places in config["cluster"].items()}
            job, index = config["task"]["type"], int(config["task"]["index"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClusterError(
                f"training.strategy is {strategy!r}, and TF_CONFIG does not say which processes "
                f"there are: expected JSON such as {_EXAMPLE}; received {text!r}: set it for every "
                "process, or set training.strategy to 'none'"
            ) from error
        cls._check(strategy, given, job, index)
        cluster = cls(strategy, given, job, index)
        if strategy == "multi_worker":
            # Its collectives are set up before TensorFlow's first operation or not at all.
            _ = cluster.distribute_strategy
        return cluster

    @staticmethod
    def _check(strategy: str, given: dict[str, tuple[str, ...]], job: str, index: int) -> None:
        jobs = _JOBS[strategy]
        unknown = sorted({*given, job} - set(jobs))
        if unknown:
            raise ClusterError(
                f"expected the jobs {list(jobs)} in TF_CONFIG for training.strategy {strategy!r}; "
                f"received {unknown}: leave them out, or choose another strategy"
            )
        needed = [_WORKER] if strategy == "multi_worker" else [_CHIEF, _WORKER, _SERVER]
        lacking = [name for name in needed if not given.get(name)]
        if lacking or len(given.get(_CHIEF, ())) > 1:
            raise ClusterError(
                f"expected at least one process of each of {needed} in TF_CONFIG, and at most one "
                f"chief, for training.strategy {strategy!r}; received {given}: name them"
            )
        if not 0 <= index < len(given.get(job, ())):
            raise ClusterError(
                f"expected this process's task to be one of those in TF_CONFIG's cluster, {given}; "
                f"received {job!r} number {index}: number the processes of a job from 0"
            )

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        if self.strategy == "multi_worker" and _CHIEF not in (self.addresses or {}):
            return self.index == 0
        return self.job == _CHIEF

    @property
    def only_serves(self) -> bool:
        """Whether this process is a worker or a server of a chief elsewhere."""
        return self.strategy == "parameter_server" and not self.is_chief

    @cached_property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """TensorFlow's strategy; made when first read, and only where a model is trained."""
        if self.strategy == "mirrored":
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            return tf.distribute.MirroredStrategy([device.name for device in devices])
        if self.strategy == "multi_worker":
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=self.resolver())
        if self.strategy == "parameter_server":
            assert self.addresses is not None
            return tf.distribute.ParameterServerStrategy(
                self.resolver(), variable_partitioner=self.partitioner
            )
        return tf.distribute.get_strategy()

    @cached_property
    def partitioner(self) -> TablePartitioner:
        """What shares weights out among the servers."""
        return TablePartitioner(len((self.addresses or {}).get(_SERVER, ())))

    def resolver(self) -> tf.distribute.cluster_resolver.ClusterResolver:
        """TensorFlow's description of the cluster and of this process."""
        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(
                {job: list(places) for job, places in (self.addresses or {}).items()}
            ),
            task_type=self.job,
            task_id=self.index,
            rpc_layer="grpc",
        )

    def devices(self, *jobs: str) -> list[str]:
        """Names by which TensorFlow calls the processes of some jobs."""
        return [
            f"/job:{job}/replica:0/task:{number}"
            for job in jobs
            for number in range(len((self.addresses or {})[job]))
        ]
