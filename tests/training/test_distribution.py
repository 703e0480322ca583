"""Training by several processes of this machine, or by several devices of one."""

import numpy as np
import pytest
import tensorflow as tf

from tests.training.cluster_runs import Processes, cluster_of, history, losses
from tests.training.small_experiment import experiment
from tfmtl.models import predict_log
from tfmtl.training import RunFolder, load_run, prepare_data, train, whole_graph_states

BATCH, STEPS = 128, 4
SETTINGS = ["training.epochs=2", "model.hyperparameters.dropout=0"]
# All neighbours, so that no draw tells a batch from its parts, nor do the edges of a batch's own
# rows, which a replica masks in its part alone.
OF_MODEL = {"mmoe": [], "mogenet": ["graph.fan_out=[1000]", "graph.mask_own_edges=false"]}


def order_of(epoch, rows):
    """The order of an epoch's rows under seed 0."""
    order = np.arange(rows)
    np.random.default_rng((0, epoch)).shuffle(order)
    return order


def assert_every_row_is_taken_once(processes, rows, replicas):
    """The replicas' rows of a step, side by side, are those of the step in one process."""
    places = {}
    for (epoch, step, replica), taken in processes.rows():
        # What is made ahead of the last step is of an epoch that no one trains on.
        if epoch < 2:
            places.setdefault((epoch, step), {})[replica] = taken
    assert sorted(places) == [(epoch, step) for epoch in range(2) for step in range(STEPS)]
    for (epoch, step), parts in places.items():
        joined = [row for replica in range(replicas) for row in parts[replica]]
        assert joined == order_of(epoch, rows)[step * BATCH : (step + 1) * BATCH].tolist()


def variables(folder, kind="last"):
    reader = tf.train.load_checkpoint(str(RunFolder(folder).checkpoints / kind))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if name.startswith("model/")}


def assert_close_runs(folder, other, rtol=1e-4):
    np.testing.assert_allclose(losses(folder), losses(other), rtol=rtol)
    received, expected = variables(folder), variables(other)
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=1e-2, atol=1e-3, err_msg=name)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Data of a model, and the folder of its run in one process."""
    made = {}

    def run(model):
        if model not in made:
            chosen = experiment(model, *SETTINGS, *OF_MODEL[model])
            data = prepare_data(chosen)
            assert len(data.train) // BATCH == STEPS
            folder = tmp_path_factory.mktemp(model) / "run"
            train(chosen, folder, data=data)
            made[model] = data, folder
        return made[model]

    return run


def processes_of(folder, model, strategy, *settings, cluster=None):
    settings = [f"training.strategy={strategy}", *SETTINGS, *OF_MODEL[model], *settings]
    return Processes(folder, model, *settings, cluster=cluster)


@pytest.mark.slow
@pytest.mark.parametrize("model", OF_MODEL)
def test_two_workers_train_as_one_process_does(model, single, tmp_path):
    data, folder = single(model)
    with processes_of(tmp_path, model, "multi_worker", cluster=cluster_of(worker=2)) as processes:
        assert set(processes.start_all().wait().values()) == {0}
    assert_every_row_is_taken_once(processes, len(data.train), 2)
    assert_close_runs(processes.run, folder)
    # One of them writes.
    assert {path.name for path in processes.run.iterdir()} == {
        path.name for path in folder.iterdir()
    }
    trained = load_run(processes.run)
    scores = predict_log(
        trained.model, data.test, node_states=whole_graph_states(trained.model, trained.bundle)
    )
    assert set(scores) == {"click", "like", "purchase"}


@pytest.mark.slow
def test_two_replicas_train_as_one_does(single, tmp_path):
    data, folder = single("mogenet")
    with processes_of(tmp_path, "mogenet", "mirrored") as processes:
        assert processes.start(LOGICAL_CPUS=2).wait() == {"chief0": 0}
    assert_every_row_is_taken_once(processes, len(data.train), 2)
    assert_close_runs(processes.run, folder)


@pytest.mark.slow
def test_a_batch_that_replicas_cannot_share_out_is_refused(tmp_path):
    with processes_of(tmp_path, "mmoe", "mirrored", "training.batch_size=127") as processes:
        assert processes.start(LOGICAL_CPUS=2).wait() == {"chief0": 1}
    message = (
        "expected a training.batch_size that 2 replicas can share out in equal parts; received"
    )
    assert f"{message} 127: set it to a multiple of 2, such as 126" in processes.log("chief0")


@pytest.mark.slow
def test_draws_of_replicas_are_part_of_what_is_resumed(tmp_path):
    settings = ["model.hyperparameters.dropout=0.2", "training.ema_momentum=0.9"]
    with processes_of(tmp_path / "one", "mmoe", "mirrored", *settings) as whole:
        assert whole.start(LOGICAL_CPUS=2).wait() == {"chief0": 0}
    often = [*settings, "training.checkpoint_every=3"]
    with processes_of(tmp_path / "two", "mmoe", "mirrored", *often) as parts:
        parts.start(LOGICAL_CPUS=2)
        parts.wait_until(lambda: RunFolder(parts.run).has_checkpoint)
        parts.processes["chief0"].kill()
        parts.start("chief", 0, "--resume", LOGICAL_CPUS=2)
        assert parts.wait() == {"chief0": 0}
    assert_close_runs(parts.run, whole.run, rtol=1e-6)


@pytest.mark.slow
def test_a_worker_that_dies_stops_the_others_and_all_resume(tmp_path):
    settings = ["training.epochs=6", "training.patience=6", "training.checkpoint_every=3"]
    cluster = cluster_of(worker=2)
    with processes_of(
        tmp_path / "one", "mmoe", "multi_worker", *settings, cluster=cluster
    ) as whole:
        assert set(whole.start_all().wait().values()) == {0}
    cluster = cluster_of(worker=2)
    with processes_of(
        tmp_path / "two", "mmoe", "multi_worker", *settings, cluster=cluster
    ) as parts:
        parts.start_all()
        parts.wait_until(lambda: RunFolder(parts.run).has_checkpoint)
        parts.processes["worker1"].kill()
        assert parts.wait() == {"worker0": 1, "worker1": -9}
        assert "start all of them again with --resume" in parts.log("worker0")
        parts.cluster = cluster_of(worker=2)
        assert set(parts.start_all("--resume").wait().values()) == {0}
    assert_close_runs(parts.run, whole.run, rtol=1e-6)
    assert len(history(parts.run)) == 6


def assert_every_step_is_made_once(processes, rows, first=(0, 0), batch=BATCH):
    taken = processes.rows()
    places = [(epoch, step) for epoch in range(2) for step in range(rows // batch)]
    assert [place for place, _ in taken] == [place for place in places if place >= first]
    for (epoch, step), own in taken:
        assert own == order_of(epoch, rows)[step * batch : (step + 1) * batch].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("model", OF_MODEL)
def test_workers_of_a_chief_make_every_step_once(model, single, tmp_path):
    data, folder = single(model)
    cluster = cluster_of(chief=1, worker=2, ps=2)
    with processes_of(tmp_path, model, "parameter_server", cluster=cluster) as processes:
        assert set(processes.start_all().wait().values()) == {0}
    assert_every_step_is_made_once(processes, len(data.train))
    assert set(processes.makers()) <= {"worker0", "worker1"}
    # A step misses those that another worker has under way: with two, the weights are a step or two
    # old, of the eight of this run, in each of which a loss falls by about 2 %.
    np.testing.assert_allclose(losses(processes.run), losses(folder), rtol=0.05)
    assert (losses(processes.run)[1, 0] < losses(processes.run)[0, 0]).all()
    # What it leaves behind is a run as any other.
    trained = load_run(processes.run)
    scores, expected = (
        predict_log(one.model, data.test, node_states=whole_graph_states(one.model, one.bundle))
        for one in (trained, load_run(folder))
    )
    for task, values in expected.items():
        np.testing.assert_allclose(scores[task], values, atol=0.1)


@pytest.mark.slow
def test_tables_lie_on_all_servers_and_a_run_goes_on_after_its_chief(tmp_path):
    # Of 8000 users about 6900 have one of 16,000 rows: a table of 7000 rows of 128 bytes, or 860
    # KiB, has a part for either server.
    log = {"num_users": 8000, "num_items": 50, "num_rows": 20_000}
    settings = [f"dataset.options.{name}={value}" for name, value in log.items()]
    settings += ["model.hyperparameters.embedding_dim=32", "training.batch_size=2000"]
    settings += ["training.checkpoint_every=2", "training.optimizer=tfmtl>LazyAdam"]
    cluster = cluster_of(chief=1, worker=2, ps=2)
    with processes_of(
        tmp_path, "mmoe", "parameter_server", *settings, cluster=cluster
    ) as processes:
        processes.start_all()
        processes.wait_until(lambda: RunFolder(processes.run).has_checkpoint)
        for process in processes.processes.values():
            process.kill()
            process.wait()
        reader = tf.train.load_checkpoint(str(RunFolder(processes.run).checkpoints / "last"))
        first = tuple(
            int(reader.get_tensor(f"{name}_done/.ATTRIBUTES/VARIABLE_VALUE"))
            for name in ("epochs", "steps")
        )
        for path in tmp_path.glob("*.rows"):
            path.unlink()
        processes.cluster = cluster_of(chief=1, worker=2, ps=2)
        assert set(processes.start_all("--resume").wait().values()) == {0}
    assert_every_step_is_made_once(processes, 16_000, first, batch=2000)
    assert len(history(processes.run)) == 2
    rows = load_run(processes.run).model.embedding.num_rows
    reader = tf.train.load_checkpoint(str(RunFolder(processes.run).checkpoints / "last"))
    shapes = reader.get_variable_to_shape_map()
    # As one, whatever the number of servers, both moments of a row side by side.
    assert shapes["model/embedding/table/.ATTRIBUTES/VARIABLE_VALUE"] == [rows, 32]
    assert [shape for shape in shapes.values() if shape[1:] == [2, 32]] == [[rows, 2, 32]]


@pytest.mark.slow
def test_a_worker_that_dies_and_comes_back_does_not_end_the_run(tmp_path):
    cluster = cluster_of(chief=1, worker=2, ps=2)
    with processes_of(tmp_path, "mmoe", "parameter_server", cluster=cluster) as processes:
        for index in range(2):
            processes.start("ps", index).start("worker", index, DIE_AFTER=2 * index)
        processes.start("chief")
        assert processes.wait("worker1") == {"worker1": -9}
        processes.start("worker", 1)
        # It may come back when the run is over already, and would then wait for the next one.
        assert set(processes.wait("chief0", "worker0", "ps0", "ps1").values()) == {0}
    made = [place for place, _ in processes.rows()]
    # What the worker did not finish is made again.
    assert set(made) == {(epoch, step) for epoch in range(2) for step in range(STEPS)}
    assert len(made) > 2 * STEPS
    assert len(history(processes.run)) == 2


@pytest.mark.slow
def test_a_server_that_dies_is_named(tmp_path):
    settings = ["training.epochs=1000", "training.patience=1000"]
    cluster = cluster_of(chief=1, worker=2, ps=2)
    with processes_of(
        tmp_path, "mmoe", "parameter_server", *settings, cluster=cluster
    ) as processes:
        processes.start_all()
        processes.wait_until(lambda: RunFolder(processes.run).has_checkpoint)
        processes.processes["ps1"].kill()
        assert processes.wait("chief0") == {"chief0": 1}
        log = processes.log("chief0")
        assert "'ps' number 1 is gone" in log
        assert "start all of them again with --resume" in log
        # The others do not wait for ever.
        assert processes.wait("worker0", "worker1", "ps0") == {"worker0": 1, "worker1": 1, "ps0": 1}
