"""`tfmtl export --task`: one task of a GRec."""

import json

import pytest

from tests.cli.command_line import done, refused, tfmtl
from tests.training.small_experiment import DATASET, HYPERPARAMETERS
from tfmtl.export import export_gap, raw_request
from tfmtl.models import predict_log
from tfmtl.training import load_run, prepare_data

MODELS = {
    "grec": "{embedding_dim: 4, dim: 8, num_heads: 2, num_experts: 4}",
    "shared_bottom": HYPERPARAMETERS["shared_bottom"],
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, hyperparameters in MODELS.items():
        text = f"{DATASET}model: {{name: {name}, hyperparameters: {hyperparameters}}}\n"
        (folder / f"{name}.yaml").write_text(text)
        once = ("--set", "training.epochs=1")
        done("train", folder / f"{name}.yaml", "--output", folder / name, *once)
    return folder


def test_one_task_is_exported(runs, tmp_path):
    outcome = done("export", runs / "grec", "--output", tmp_path, "--task", "like")
    version = tmp_path / "1"
    assert outcome.out.strip() == str(version)
    described = json.loads((version / "assets.extra" / "inputs.json").read_text())
    assert described["tasks"] == ["like"]
    run = load_run(runs / "grec")
    data = prepare_data(run.experiment)
    live = {"like": predict_log(run.model, data.test)["like"]}
    request = raw_request(data.encoder, data.loaded.split.test)
    assert export_gap(version, request, live) <= 1e-6


def test_other_models_answer_all_their_tasks(runs, tmp_path):
    run = runs / "shared_bottom"
    outcome = tfmtl("export", run, "--output", tmp_path, "--task", "like")
    assert outcome.status == 2
    # Shown in a box, whose lines break anywhere.
    said = "".join(outcome.err.replace("│", " ").split())
    message = f"--task exports a task of a grec; {run} holds a shared_bottom: leave it out"
    assert "".join(message.split()) in said
    assert not list(tmp_path.iterdir())


def test_an_unknown_task_is_named(runs, tmp_path):
    line = refused("export", runs / "grec", "--output", tmp_path, "--task", "love")
    assert "no task 'love'; expected one of ['click', 'like', 'purchase']" in line
    assert not list(tmp_path.iterdir())
