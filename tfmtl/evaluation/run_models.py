"""Runs what a comparison still needs, one run after another or several at a time."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfmtl.evaluation.model_runs import ModelRuns
from tfmtl.evaluation.prepared_data_cache import PreparedDataCache
from tfmtl.evaluation.run_task import RunTask


def run_one_by_one(
    models: Sequence[ModelRuns], data_dir: Path | None, *, progress: bool
) -> Iterator[None]:
    """Runs everything in this process, in order.

    Args:
        models: The runs of each model and log.
        data_dir: Folder of a local copy of the data.
        progress: Whether to show progress bars.

    Yields:
        After every run.

    Example:
        >>> list(run_one_by_one([], None, progress=False))
        []
    """
    cache = PreparedDataCache(data_dir, progress=progress)
    console = Console(stderr=True, quiet=not progress)
    for model in models:
        for batch in model.batches():
            for task in batch:
                if task.metric is not None:
                    console.print(task.title, highlight=False, soft_wrap=True)
                task.run(cache, progress=progress)
                yield


def run_in_processes(
    models: Sequence[ModelRuns], data_dir: Path | None, *, jobs: int, progress: bool
) -> Iterator[None]:
    """Runs several at a time, each in a process of its own with its share of the cores.

    A model is begun when those before it leave a process idle, so that logs follow one another.

    Args:
        models: The runs of each model and log.
        data_dir: Folder of a local copy of the data.
        jobs: Runs at a time.
        progress: Whether to show bars of the trials and cells.

    Yields:
        After every run.

    Example:
        >>> list(run_in_processes([], None, jobs=2, progress=False))
        []
    """
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    waiting = iter([model.batches() for model in models])
    ready: deque[tuple[RunTask, Iterator[list[RunTask]]]] = deque()
    running: dict[Future[None], tuple[RunTask, Iterator[list[RunTask]]]] = {}
    with (
        ProcessPoolExecutor(
            jobs,
            multiprocessing.get_context("spawn"),
            initializer=_share_cores,
            initargs=(threads,),
        ) as pool,
        _Bars(models, show=progress) as bars,
    ):
        try:
            while True:
                while len(running) < jobs:
                    if ready:
                        task, batches = ready.popleft()
                        running[pool.submit(_run, task, data_dir)] = task, batches
                    elif (begun := next(waiting, None)) is not None:
                        ready.extend(_next_batch(begun))
                    else:
                        break
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    task, batches = running.pop(future)
                    future.result()
                    bars.advance_bar(task)
                    rest = [*ready, *running.values()]
                    if all(other is not batches for _, other in rest):
                        ready.extendleft(reversed(_next_batch(batches)))
                    yield
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _next_batch(
    batches: Iterator[list[RunTask]],
) -> list[tuple[RunTask, Iterator[list[RunTask]]]]:
    """The next tasks of a model that are not finished; none at its end."""
    batch = next((batch for batch in batches if batch), [])
    return [(task, batches) for task in batch]


def _share_cores(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


@functools.cache
def _cache_of_process(data_dir: Path | None) -> PreparedDataCache:
    return PreparedDataCache(data_dir)


def _run(task: RunTask, data_dir: Path | None) -> None:
    task.run(_cache_of_process(data_dir))


class _Bars(Progress):
    """A bar of the trials, where there are any, and one of the cells."""

    def __init__(self, models: Sequence[ModelRuns], *, show: bool):
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not show,
        )
        totals = {
            "Trials": sum(model.pending_trials for model in models),
            "Cells": sum(model.pending_cells for model in models),
        }
        self._bars = {
            name: self.add_task(name, total=total) for name, total in totals.items() if total
        }

    def advance_bar(self, task: RunTask) -> None:
        self.advance(self._bars["Cells" if task.metric is None else "Trials"])
