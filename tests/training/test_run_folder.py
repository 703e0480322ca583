import shutil

import numpy as np
import pytest

from tests.training.small_experiment import experiment
from tfmtl.data import FeatureEncoderError
from tfmtl.models import predict_log
from tfmtl.training import CheckpointError, ExperimentError, RunFolder, load_run


def test_names_are_those_of_the_run(tmp_path):
    run = RunFolder(tmp_path)
    assert {
        path.name for path in (run.experiment, run.encoder, run.graph, run.checkpoints, run.metrics)
    } == {"experiment.yaml", "encoder", "graph", "checkpoints", "metrics.json"}
    assert not run.has_finished_epoch
    assert not run.has_checkpoint


def test_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"no run under .*/absent: expected the folder that"):
        load_run(tmp_path / "absent")


def test_a_run_without_an_epoch(tmp_path):
    (tmp_path / "experiment.yaml").write_text(experiment().to_yaml())
    with pytest.raises(CheckpointError, match="has no finished epoch: go on with it by train --re"):
        load_run(tmp_path)


@pytest.mark.slow
def test_a_run_that_was_moved_gives_the_same_predictions(finished, data, tmp_path):
    folder, model = finished
    shutil.copytree(folder, tmp_path / "elsewhere")
    run = load_run(tmp_path / "elsewhere")
    assert run.experiment.resolved() == experiment().resolved()
    assert run.encoder.fingerprint() == data.encoder.fingerprint()
    assert run.bundle is None
    expected, scores = predict_log(model, data.test), predict_log(run.model, data.test)
    for task, values in expected.items():
        np.testing.assert_allclose(scores[task], values, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        ("checkpoints/best/*.data-*", CheckpointError, "cannot restore .*/best/ckpt-.*damaged"),
        ("checkpoints/best/*.index", CheckpointError, "cannot restore .*/best/ckpt-.*damaged"),
        ("encoder/encoder.npz", FeatureEncoderError, "encoder"),
        ("experiment.yaml", ExperimentError, "experiment.yaml: Input should be a valid dictio"),
    ],
)
def test_a_damaged_run(damage, error, message, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (file,) = (tmp_path / "run").glob(damage)
    file.write_bytes(file.read_bytes()[:5])
    with pytest.raises(error, match=message):
        load_run(tmp_path / "run")
