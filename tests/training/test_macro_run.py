"""Experiments with a macro graph, from the section `macro:` to a run that is read back."""

import json
import shutil

import numpy as np
import pytest

from tests.training.small_experiment import experiment
from tests.training.test_train import assert_same_histories, assert_same_predictions, epochs
from tfmtl.data.pipeline import training_dataset
from tfmtl.graph import (
    BundleError,
    MacroConfig,
    MacroGraph,
    build_macro_graph,
    training_versions,
)
from tfmtl.models import predict_log
from tfmtl.training import (
    Experiment,
    ExperimentError,
    RunFolder,
    ValidationMetrics,
    load_run,
    prepare_data,
    train,
)

ON_MACRO = "model.bottom={macro: {dim: 4}}"


@pytest.fixture(scope="module")
def macro_data():
    return prepare_data(experiment("mgoe"))


@pytest.fixture(scope="module")
def macro_run(macro_data, tmp_path_factory):
    """A run of three epochs that nothing disturbed: its folder and its model."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return folder, train(experiment("mgoe"), folder, data=macro_data)


def test_a_macro_graph_is_built_for_models_that_read_one(macro_data, data):
    graph = macro_data.macro_graph
    assert (graph.num_user_nodes, graph.num_item_nodes, graph.num_versions) == (4, 3, 1 + 3)
    assert graph.num_users == macro_data.encoder.vocabularies["user_id"].size
    assert macro_data.bundle is None
    assert data.macro_graph is None
    assert "macro_version" not in data.train.features
    chosen = experiment("mmoe", ON_MACRO)
    assert chosen.uses_macro_graph
    assert not chosen.uses_graph
    below = prepare_data(chosen).macro_graph
    np.testing.assert_array_equal(below.user_rows, graph.user_rows)


def test_training_rows_read_tables_without_their_own_fold(macro_data):
    versions = macro_data.train.features["macro_version"]
    chosen = experiment("mgoe").macro
    np.testing.assert_array_equal(versions, training_versions(chosen, len(versions)))
    assert set(versions) == {1, 2, 3}
    features, _, _ = next(iter(training_dataset(macro_data.train, batch_size=len(versions))))
    assert sorted(features["macro_version"].numpy()) == sorted(versions)
    for part in (macro_data.validation, macro_data.test):
        assert "macro_version" not in part.features


def test_a_saved_macro_graph_takes_the_place_of_a_new_one(macro_data, tmp_path):
    macro_data.macro_graph.save(tmp_path / "macro")
    graph = MacroGraph.load(tmp_path / "macro")
    assert prepare_data(experiment("mgoe"), macro_graph=graph).macro_graph is graph
    # How models read it is no property of the macro graph.
    for chosen in (experiment("mmoe", ON_MACRO), experiment("mgoe", "training.epochs=9")):
        assert prepare_data(chosen, macro_graph=graph).macro_graph is graph


@pytest.mark.parametrize(
    ("override", "entry"),
    [
        ("dataset.options.seed=1", "split_fingerprint"),
        ("statistics.prior=3", "encoder_fingerprint"),
        ("macro.user_nodes=5", "macro .*'user_nodes': 4.* now it is .*'user_nodes': 5"),
        ("macro.folds=2", "macro .*'folds': 3.* now it is .*'folds': 2"),
        ("macro.behaviors=[like]", r"macro .*'behaviors': None.* now it is .*\['like'\]"),
    ],
)
def test_a_macro_graph_that_was_made_otherwise_is_refused(override, entry, macro_data):
    with pytest.raises(
        BundleError, match=f"the macro graph was built with {entry}.*build the graph again"
    ):
        prepare_data(experiment("mgoe", override), macro_graph=macro_data.macro_graph)


def test_counting_a_history_needs_one():
    with pytest.raises(ValueError, match="counting: history needs rows older than the log, and"):
        prepare_data(experiment("mgoe", "macro.counting=history"))


def test_the_resolved_experiment_names_every_setting():
    chosen = experiment("mgoe", "macro.beta=0.5")
    macro = chosen.resolved()["macro"]
    assert macro.keys() == MacroConfig.model_fields.keys()
    assert (macro["user_nodes"], macro["beta"], macro["sketch_dim"]) == (4, 0.5, 128)
    assert Experiment.from_yaml(chosen.to_yaml()).macro == chosen.macro
    with pytest.raises(ExperimentError, match="user_node"):
        experiment("mgoe", "macro.user_node=5")


@pytest.mark.slow
def test_a_run_keeps_its_macro_graph(macro_run, macro_data):
    folder, model = macro_run
    run = load_run(folder)
    assert RunFolder(folder).macro_graph == folder / "macro_graph"
    assert not RunFolder(folder).graph.exists()
    assert run.bundle is None
    for name in ("user_rows", "item_groups", "recent_users"):
        kept = getattr(run.macro_graph, name)
        np.testing.assert_array_equal(kept, getattr(macro_data.macro_graph, name))
    assert_same_predictions(macro_data, run.model, model)
    again = prepare_data(run.experiment, macro_graph=run.macro_graph)
    assert again.macro_graph is run.macro_graph


@pytest.mark.slow
def test_a_model_that_is_read_back_holds_what_serving_needs(macro_run, macro_data):
    folder, model = macro_run
    live, loaded = (one.macro_bottom.store for one in (model, load_run(folder).model))
    users = np.arange(macro_data.macro_graph.num_users)
    ids = {"user_id": users, "item_id": np.ones_like(users)}
    version = {"macro_version": np.full_like(users, 2)}
    scored = live(ids).user_items
    assert np.any(live({**ids, **version}).user_items != scored)
    # Where there is one version, all rows read it.
    np.testing.assert_array_equal(loaded({**ids, **version}).user_items, scored)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(macro_run, monkeypatch, tmp_path):
    folder, model = macro_run

    def interrupt(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    chosen, resumed = experiment("mgoe"), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(ValidationMetrics, "on_epoch_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(chosen, resumed)
    assert epochs(resumed) == [1]
    data = prepare_data(chosen, macro_graph=MacroGraph.load(resumed / "macro_graph"))
    continued = train(chosen, resumed, data=data, resume=True)
    assert_same_histories(resumed, folder)
    assert_same_predictions(data, continued, model)


@pytest.mark.slow
def test_a_model_on_both_graphs_is_read_back(tmp_path):
    options = "{mgnn: {dim: 4, num_layers: 1, channels: [interaction]}, macro: {dim: 4}}"
    chosen = experiment("mmoe", f"model.bottom={options}", "training.epochs=1")
    data = prepare_data(chosen)
    model = train(chosen, tmp_path / "run", data=data)
    run = load_run(tmp_path / "run")
    assert run.bundle.edge_sets.keys() == data.bundle.edge_sets.keys()
    assert run.experiment.graph_options["num_layers"] == 1
    assert_same_predictions(data, run.model, model)


def without_folder(folder):
    shutil.rmtree(folder)


def with_half_an_array(folder):
    content = (folder / "user_rows.npy").read_bytes()
    (folder / "user_rows.npy").write_bytes(content[: len(content) // 2])


def of_another_encoder(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["encoder_fingerprint"] = "other"
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_folder, r"macro_graph is no macro graph: manifest\.json is missing"),
        (
            with_half_an_array,
            r"array user_rows\.npy has \d+ bytes, the manifest says \d+; the copy",
        ),
        (of_another_encoder, "the macro graph was built with encoder_fingerprint 'other', now it"),
    ],
)
def test_a_damaged_macro_graph(damage, message, macro_run, tmp_path):
    shutil.copytree(macro_run[0], tmp_path / "run")
    damage(tmp_path / "run" / "macro_graph")
    with pytest.raises(BundleError, match=message):
        load_run(tmp_path / "run")


def test_a_rebuilt_macro_graph_takes_the_place_of_the_runs_own(macro_run, macro_data):
    folder, _ = macro_run
    run = load_run(folder)
    train_log = macro_data.loaded.split.train
    previous = (run.macro_graph, run.encoder)

    def rebuilt(log):
        return build_macro_graph(
            log, run.encoder, run.experiment.macro, previous=previous, regroup=False
        )

    expected = predict_log(run.model, macro_data.test)
    same = load_run(folder, macro_graph=rebuilt(train_log))
    for task, scores in predict_log(same.model, macro_data.test).items():
        np.testing.assert_allclose(scores, expected[task], rtol=0, atol=1e-6)
    # Half of the edges gone, in rows that nobody else reads.
    moved = load_run(folder, macro_graph=rebuilt(train_log.select(np.arange(0, 400))))
    assert (
        moved.macro_graph.manifest["split_fingerprint"]
        != (run.macro_graph.manifest["split_fingerprint"])
    )
    changes = [
        np.abs(scores - expected[task]).max()
        for task, scores in predict_log(moved.model, macro_data.test).items()
    ]
    assert max(changes) > 1e-4


def test_a_rebuilt_macro_graph_has_the_runs_macro_nodes(macro_run, macro_data, tmp_path):
    folder, _ = macro_run
    run = load_run(folder)
    config = run.experiment.macro.model_copy(update={"user_nodes": 5})
    other = build_macro_graph(macro_data.loaded.split.train, run.encoder, config)
    with pytest.raises(
        BundleError, match=r"macro graph, \(4, 3, 3\); received \(5, 3, 3\): rebuild"
    ):
        load_run(folder, macro_graph=other)
    chosen = experiment("shared_bottom", "training.epochs=1")
    train(chosen, tmp_path / "plain")
    with pytest.raises(BundleError, match="'shared_bottom', reads no macro graph and received one"):
        load_run(tmp_path / "plain", macro_graph=other)
