"""Data that experiments of one comparison share."""

from __future__ import annotations

from pathlib import Path

import yaml

from tfmtl.training import Experiment, PreparedData, prepare_data


class PreparedDataCache:
    """Prepares data, and keeps the last that it prepared: several logs may not fit in memory.

    Args:
        data_dir: Folder of a local copy of the data.
        progress: Whether to show progress bars.

    Example:
        >>> cache = PreparedDataCache()
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator, options: {num_users: 20, num_items: 10, "
        ...     "num_rows: 400}}, model: {name: mmoe}}")
        >>> cache.get(experiment) is cache.get(experiment)
        True
    """

    def __init__(self, data_dir: Path | None = None, *, progress: bool = False):
        self._data_dir = data_dir
        self._progress = progress
        self._kept: dict[str, PreparedData] = {}

    def get(self, experiment: Experiment) -> PreparedData:
        """Data of an experiment.

        Args:
            experiment: What to load and how; how its graph is sampled does not matter.
        """
        sections = experiment.model_dump(
            mode="json", include={"dataset", "statistics", "graph", "macro"}
        )
        sections["graph"] = {
            name: value
            for name, value in sections["graph"].items()
            if experiment.uses_graph and name not in ("fan_out", "mask_own_edges")
        }
        if not experiment.uses_macro_graph:
            sections["macro"] = {}
        key = yaml.safe_dump(sections)
        if key not in self._kept:
            # Before the new data is made, so that both are never held.
            self._kept.clear()
            self._kept[key] = prepare_data(
                experiment, data_dir=self._data_dir, progress=self._progress
            )
        return self._kept[key]
