"""Writes what the jobs read: encoder, training rows, and batches of encoded rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tfmtl.data import TrainingLog
from tfmtl.pipelines.beam.bipartite_adjacency import graph_columns
from tfmtl.pipelines.beam.row_batches import write_row_batches
from tfmtl.training import Experiment, prepare_data

_ROWS_PER_GROUP = 1 << 20


def _write_log(log: TrainingLog, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    columns = log.rows.select(graph_columns(log.schema))
    pq.write_table(columns, aside, row_group_size=_ROWS_PER_GROUP)
    aside.replace(path)


def prepare_inputs(
    experiment: Experiment, output: Path, *, data_dir: Path | None = None, epochs: int = 1
) -> int:
    """Splits and encodes an experiment's log and writes the inputs of the jobs.

    Args:
        experiment: What to load and how; `training` gives the batch size and the seed.
        output: Folder; gets `encoder/`, `train.parquet`, `history.parquet` where the dataset has a
            history, and `rows/`.
        data_dir: Folder of a local copy of the data.
        epochs: Passes over the rows for which sub-graphs shall be drawn.

    Returns:
        Number of batches.

    Raises:
        FileExistsError: If the folder holds batches already.
    """
    data = prepare_data(experiment, data_dir=data_dir, with_graph=False)
    data.encoder.save(output / "encoder")
    _write_log(data.loaded.split.train, output / "train.parquet")
    if data.loaded.history is not None:
        _write_log(data.loaded.history, output / "history.parquet")
    return write_row_batches(
        data.train,
        str(output / "rows"),
        batch_size=experiment.training.batch_size,
        seed=experiment.training.seed,
        epochs=epochs,
    )
