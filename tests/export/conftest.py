import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.export.shop_log import STATISTICS, shop
from tests.training.small_experiment import experiment
from tfmtl.data import FeatureEncoder
from tfmtl.export import export_model, raw_request
from tfmtl.graph import build_graph_bundle, build_macro_graph, training_versions
from tfmtl.models import predict_log
from tfmtl.training import PreparedData, load_run, train, whole_graph_states

SCRIPT = Path(__file__).with_name("ask_saved_model.py")
SIGNATURES = ("serving_default", "by_id")


@pytest.fixture(scope="session")
def shop_data():
    """The shop's log, encoded, with its graphs."""
    loaded, chosen = shop(), experiment("mogenet")
    split = loaded.split
    encoder = FeatureEncoder.fit(split.train, statistics=STATISTICS)
    train, *held_out = (encoder.encode(log) for log in (split.train, split.validation, split.test))
    versions = training_versions(chosen.macro, len(train))
    train = replace(train, features={**train.features, "macro_version": versions})
    bundle = build_graph_bundle(split.train, encoder, similarity=chosen.graph.similarity)
    macro_graph = build_macro_graph(split.train, encoder, chosen.macro)
    return PreparedData(loaded, encoder, train, *held_out, bundle, macro_graph)


@pytest.fixture(scope="session")
def trained(shop_data, tmp_path_factory):
    """A trained MMoE and a trained MoGENet, read back from their run folders."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {}
    for name in ("mmoe", "mogenet"):
        train(experiment(name, "training.batch_size=32"), folder / name, data=shop_data)
        runs[name] = load_run(folder / name)
    return runs


@pytest.fixture(scope="session")
def answered(shop_data, trained, tmp_path_factory):
    """Live probabilities and those of a process of its own, for eight rows of several kinds."""
    folder = tmp_path_factory.mktemp("served")
    test = shop_data.loaded.split.test
    encoded = shop_data.test
    chosen = eight_rows(shop_data)
    asked, expected = {}, {}
    for name, run in trained.items():
        states = whole_graph_states(run.model, run.bundle)
        version = export_model(run.model, run.encoder, folder / name, node_states=states)
        scores = predict_log(run.model, encoded, node_states=states)
        for signature in SIGNATURES:
            expected[str(version), signature] = {
                task: values[chosen] for task, values in scores.items()
            }
        asked |= requests(version, run.encoder, test.select(chosen))
    np.savez(folder / "requests.npz", **asked)
    command = [sys.executable, str(SCRIPT), str(folder)]
    # Without the variable that `import tfmtl` sets in this process.
    environment = {key: value for key, value in os.environ.items() if "KERAS" not in key}
    outcome = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    answers = np.load(folder / "answers.npz")
    return expected, answers, json.loads((folder / "report.json").read_text())


def requests(version, encoder, rows):
    """What `ask_saved_model` reads: rows for both signatures of an export."""
    return {
        f"{version}|{signature}|{key}": values
        for signature in SIGNATURES
        for key, values in raw_request(encoder, rows, signature).items()
    }


def eight_rows(data):
    """Rows of the test part: unknown user, unknown item, user without edges, known ones."""
    features = data.test.features
    degrees = data.bundle.edge_sets["item_user"].degrees
    users, items = features["user_id"], features["item_id"]
    lonely = (users > 0) & (degrees[users] == 0)
    kinds = (users == 0, items == 0, lonely, (users > 0) & (items > 0) & (degrees[users] > 0))
    chosen: list[int] = []
    for kind in kinds:
        own = [row for row in np.flatnonzero(kind) if row not in chosen][:2]
        assert len(own) == 2
        chosen += own
    return np.array(chosen)
