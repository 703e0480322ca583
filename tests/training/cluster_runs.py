"""Runs of small experiments in processes of this machine."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tests.training.small_experiment import text
from tfmtl.training import RunFolder

ROOT = Path(__file__).parents[2]
MODULE = "tests.training.cluster_process"
LONGEST = 150


def addresses(count):
    """Addresses that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def cluster_of(**jobs):
    """A cluster of so many processes of each job."""
    return {job: addresses(count) for job, count in jobs.items()}


class Processes:
    """The processes of one run; what is left of them is killed in the end."""

    def __init__(self, folder, model, *settings, cluster=None):
        self.folder = folder
        self.cluster = cluster
        folder.mkdir(parents=True, exist_ok=True)
        self.experiment = folder / "experiment.yaml"
        self.experiment.write_text(text(model))
        self.settings = settings
        self.processes = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def start(self, job="chief", index=0, *arguments, **environment):
        name = f"{job}{index}"
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        if self.cluster:
            task = {"type": job, "index": index}
            variables["TF_CONFIG"] = json.dumps({"cluster": self.cluster, "task": task})
        variables.update({key: str(value) for key, value in environment.items()})
        files = [str(self.experiment), str(self.run), str(self.folder / f"{name}.rows")]
        options = [part for setting in self.settings for part in ("--set", setting)]
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", MODULE, *files, *options, *arguments],
                cwd=ROOT,
                env=variables,
                stdout=log,
                stderr=log,
            )
        return self

    def start_all(self, *arguments, **environment):
        for job in sorted(self.cluster, key=["ps", "worker", "chief"].index):
            for index in range(len(self.cluster[job])):
                self.start(job, index, *arguments, **environment)
        return self

    def wait(self, *names):
        """Exit statuses of those processes, or of all, when they have ended."""
        until = time.monotonic() + LONGEST
        names = names or self.processes
        statuses = {}
        for name in names:
            left = max(until - time.monotonic(), 1)
            try:
                statuses[name] = self.processes[name].wait(timeout=left)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{name} does not end: {self.log(name)}") from None
        return statuses

    def wait_until(self, condition):
        until = time.monotonic() + LONGEST
        while not condition():
            assert time.monotonic() < until, {name: self.log(name) for name in self.processes}
            time.sleep(0.05)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()[-3000:]

    @property
    def run(self):
        return self.folder / "run"

    def rows(self):
        """Rows per epoch and step, from all processes, in the order of replicas."""
        taken = []
        for path in self.folder.glob("*.rows"):
            for line in path.read_text().splitlines():
                *place, rows = json.loads(line)
                taken.append((tuple(place), rows))
        return sorted(taken)

    def makers(self):
        """How many batches each process has made."""
        return {
            path.stem: len(path.read_text().splitlines()) for path in self.folder.glob("*.rows")
        }


def history(folder):
    with RunFolder(folder).history.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def losses(folder):
    """Rows of the reported training losses, one per epoch."""
    rows = history(folder)
    names = [name for name in rows[0] if name.endswith("loss") and not name.startswith("val_")]
    return np.array([[row[name] for name in names] for row in rows])
