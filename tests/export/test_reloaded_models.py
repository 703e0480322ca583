"""Every model of the package, trained, written and read back by a process that starts from files.

One test for all: importing TensorFlow takes longer than reading a small model.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.export.ask_saved_model import SPLITS
from tests.export.conftest import SIGNATURES, eight_rows, requests
from tests.models.conftest import SMALL
from tests.models.test_bottom import BOTH, BOTTOM, MACRO
from tests.training.small_experiment import DATASET
from tfmtl.export import export_model
from tfmtl.models import MODELS, predict_log
from tfmtl.training import Experiment, train, whole_graph_states

ROOT = Path(__file__).parents[2]
VARIANTS = {
    **{name: {"name": name, "hyperparameters": SMALL[name]} for name in MODELS},
    **{
        f"{name}+mgnn": {"name": name, "hyperparameters": SMALL[name], "bottom": BOTTOM}
        for name in ("mmoe", "ple")
    },
    **{
        f"mmoe+{label}": {"name": "mmoe", "hyperparameters": SMALL["mmoe"], "bottom": bottom}
        for label, bottom in (("macro", MACRO), ("mgnn+macro", BOTH))
    },
    "mmoe-routed": {
        "name": "mmoe",
        "hyperparameters": {**SMALL["mmoe"], "experts": "routed", "k": 2},
    },
    # Its averages over batches are weights that no gradient moves.
    "home-batch": {"name": "home", "hyperparameters": {**SMALL["home"], "normalization": "batch"}},
}


def experiment(model):
    # JSON, in which tuples are lists, is YAML.
    text = f"{DATASET}model: {json.dumps(model)}\n"
    return Experiment.from_yaml(text, ["training.batch_size=32", "training.epochs=1"])


def largest_gap(received, expected):
    return max(float(np.abs(received[task] - values).max()) for task, values in expected.items())


@pytest.mark.slow
def test_every_model_answers_alike_in_another_process(shop_data, tmp_path):
    chosen = eight_rows(shop_data)
    rows = shop_data.loaded.split.test.select(chosen)
    live, versions, asked = {}, {}, {}
    for label, model_config in VARIANTS.items():
        run = tmp_path / "runs" / label
        model = train(experiment(model_config), run, data=shop_data)
        states = whole_graph_states(model, shop_data.bundle)
        live[label] = predict_log(model, shop_data.test, node_states=states)
        versions[label] = export_model(
            model, shop_data.encoder, tmp_path / "served" / label, node_states=states
        )
        asked |= requests(versions[label], shop_data.encoder, rows)
    np.savez(tmp_path / "requests.npz", **asked)
    command = [sys.executable, "-m", "tests.export.reload_runs", str(tmp_path)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr

    reloaded, answers = np.load(tmp_path / "reloaded.npz"), np.load(tmp_path / "answers.npz")
    gaps = {}
    for label, scores in live.items():
        # Rows that all score alike would agree with anything.
        assert all(np.ptp(values) > 1e-3 for values in scores.values()), label
        again = {task: reloaded[f"{label}|{task}"] for task in scores}
        gaps[label, "run folder"] = largest_gap(again, scores)
        eight = {task: values[chosen] for task, values in scores.items()}
        for signature in SIGNATURES:
            for split in SPLITS:
                key = f"{versions[label]}|{signature}|{split}"
                received = {task: answers[f"{key}|{task}"] for task in eight}
                gaps[label, signature, split] = largest_gap(received, eight)
    assert len(gaps) == len(VARIANTS) * (1 + 2 * len(SPLITS))
    assert {key: gap for key, gap in gaps.items() if not gap <= 1e-6} == {}
