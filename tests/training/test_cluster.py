import json

import pytest

from tests.training.small_experiment import experiment
from tfmtl.training import Cluster, ClusterError, ExperimentError, serve_chief, train


@pytest.fixture
def tf_config(monkeypatch):
    def put(jobs, job="worker", index=0):
        cluster = {name: [f"host:{number}" for number in range(n)] for name, n in jobs.items()}
        config = {"cluster": cluster, "task": {"type": job, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))

    return put


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_strategies_of_one_process_need_no_cluster(strategy, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    cluster = Cluster.from_environment(strategy)
    assert cluster.is_chief
    assert not cluster.only_serves


def test_the_processes_of_a_parameter_server_cluster_know_their_places(tf_config):
    jobs = {"chief": 1, "worker": 2, "ps": 2}
    places = {}
    for job, index in (("chief", 0), ("worker", 1), ("ps", 1)):
        tf_config(jobs, job, index)
        cluster = Cluster.from_environment("parameter_server")
        places[job] = (cluster.job, cluster.index, cluster.is_chief, cluster.only_serves)
    assert places == {
        "chief": ("chief", 0, True, False),
        "worker": ("worker", 1, False, True),
        "ps": ("ps", 1, False, True),
    }
    assert cluster.devices("worker", "ps") == [
        "/job:worker/replica:0/task:0",
        "/job:worker/replica:0/task:1",
        "/job:ps/replica:0/task:0",
        "/job:ps/replica:0/task:1",
    ]


def test_the_first_worker_writes_where_no_one_is_called_chief():
    workers = {"worker": ("a:1", "b:1")}
    places = [Cluster("multi_worker", workers, "worker", index).is_chief for index in range(2)]
    assert places == [True, False]
    with_chief = {"chief": ("c:1",), **workers}
    assert not Cluster("multi_worker", with_chief, "worker", 0).is_chief
    assert Cluster("multi_worker", with_chief, "chief", 0).is_chief


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"cluster": {"worker": ["a:1"]}}'])
@pytest.mark.parametrize("strategy", ["multi_worker", "parameter_server"])
def test_an_environment_without_cluster_is_refused(strategy, text, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(
        ClusterError, match=r"TF_CONFIG does not say which .* expected JSON such as"
    ):
        Cluster.from_environment(strategy)


@pytest.mark.parametrize(
    ("strategy", "jobs", "job", "index", "message"),
    [
        ("multi_worker", {"worker": 2, "ps": 1}, "worker", 0, r"received \['ps'\]: leave them out"),
        ("multi_worker", {"worker": 2}, "evaluator", 0, r"received \['evaluator'\]"),
        ("multi_worker", {"worker": 2}, "worker", 2, "received 'worker' number 2: number the"),
        ("multi_worker", {"chief": 1}, "chief", 0, r"at least one process of each of \['worker'\]"),
        ("parameter_server", {"chief": 1, "worker": 2}, "chief", 0, "'worker', 'ps'.*: name them"),
        ("parameter_server", {"worker": 2, "ps": 2}, "ps", 0, "one chief.*: name them"),
        ("parameter_server", {"chief": 2, "worker": 1, "ps": 1}, "ps", 0, "at most one chief"),
        ("parameter_server", {"chief": 1, "worker": 1, "ps": 1}, "ps", 1, "'ps' number 1"),
        ("parameter_server", {"chief": 1, "worker": 1, "ps": 1}, "tpu", 0, r"received \['tpu'\]"),
    ],
)
def test_a_cluster_that_is_none_of_the_strategy_is_refused(
    strategy, jobs, job, index, message, tf_config
):
    tf_config(jobs, job, index)
    with pytest.raises(ClusterError, match=message):
        Cluster.from_environment(strategy)


def test_a_worker_of_a_chief_does_not_train_by_itself(tf_config, tmp_path):
    tf_config({"chief": 1, "worker": 2, "ps": 2}, "worker", 1)
    chosen = experiment("mmoe", "training.strategy=parameter_server")
    with pytest.raises(
        ClusterError, match=r"'worker' number 1 of the cluster, .*: call serve_chief"
    ):
        train(chosen, tmp_path)
    with pytest.raises(ValueError, match="a worker makes batches of its own copy of the data"):
        serve_chief(chosen, Cluster.from_environment("parameter_server"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy=mirrored", "jit_compile=true"], "'mirrored': XLA compiles steps of one device"),
        (["strategy=parameter_server", "precision=bfloat16"], "trains in float32; received .*bfl"),
        (["strategy=parameter_server", "steps_per_execution=2"], "received steps_per_execution 2"),
        (["strategy=horovod"], "training.strategy"),
    ],
)
def test_what_a_strategy_cannot_do_is_refused(overrides, message):
    with pytest.raises(ExperimentError, match=message):
        experiment("mmoe", *(f"training.{override}" for override in overrides))
