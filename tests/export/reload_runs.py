"""Reads run folders and SavedModels back in a process of its own.

Asks the SavedModels of the folder given as argument as `ask_saved_model` does, before the package
is imported; then scores the shop's test rows with every run under `runs/` and writes
`reloaded.npz`, with keys `run|task`.
"""

import sys
from pathlib import Path

import numpy as np

from tests.export import ask_saved_model


def main(folder):
    ask_saved_model.main(folder)
    from tests.export.shop_log import shop
    from tfmtl.models import predict_log
    from tfmtl.training import load_run, whole_graph_states

    rows = shop().split.test
    scores = {}
    for path in sorted((folder / "runs").iterdir()):
        run = load_run(path)
        states = whole_graph_states(run.model, run.bundle)
        encoded = run.encoder.encode(rows)
        for task, values in predict_log(run.model, encoded, node_states=states).items():
            scores[f"{path.name}|{task}"] = values
    np.savez(folder / "reloaded.npz", **scores)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
