"""Every kind of bad input ends as one line that says what to do."""

import socket

import pytest
import yaml

from tests.cli.command_line import refused, tfmtl
from tests.training.small_experiment import HYPERPARAMETERS
from tfmtl.datasets import movielens

SCHEMA = """
user: user
item: item
time: day
features: [{name: price, kind: numeric}, {name: tab}]
tasks: [{name: click}, {name: like, parent: click}]
"""
HEADER = "user,item,day,price,tab,click,like\n"
# User, item, day, price, tab, click and like of thirty days; every other row is clicked.
ROWS = [f"{n % 4},{n % 3},{n},{n}.5,{'ab'[n % 2]},{n % 2},{n % 4 // 2}" for n in range(30)]


def experiment(folder, model="shared_bottom"):
    content = {
        "dataset": {
            "name": "table",
            "options": {
                "log": "log.csv",
                "schema": "schema.yaml",
                "split": {"kind": "by_time", "validation_from": 20, "test_from": 25},
            },
        },
        "model": {"name": model, "hyperparameters": yaml.safe_load(HYPERPARAMETERS[model])},
        "graph": {"fan_out": [4]},
        "training": {"epochs": 1},
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def shop(tmp_path):
    """Writes a log with the given changes and tries to train on it."""

    def refuse(rows=ROWS, header=HEADER, schema=SCHEMA):
        (tmp_path / "log.csv").write_text(header + "\n".join(rows) + "\n" * bool(rows))
        (tmp_path / "schema.yaml").write_text(schema)
        file = experiment(tmp_path)
        line = refused("train", file, "--output", tmp_path / "run", "--data-dir", tmp_path)
        assert not (tmp_path / "run").exists()
        return line

    return refuse


def test_a_missing_column(shop):
    line = shop(header=HEADER.replace("tab", "page"))
    assert "feature 'tab': expected one column 'tab' in the log, but there is none" in line
    assert "'page'" in line
    assert "log.csv" in line


def test_a_label_outside_0_and_1(shop):
    line = shop([*ROWS[:-1], ROWS[-1][:-3] + "5,0"])
    assert "'click' holds 5 and other values outside {0, 1}" in line
    assert "positive: {operator: '>=', value: 4}" in line


def test_a_nan_feature(shop):
    line = shop(["0,0,0,nan,a,1,1", *ROWS[1:]])
    assert "numeric feature 'price': column 'price' is missing, NaN or infinite in 1 of 20" in line
    assert "set fill= on the feature" in line


def test_an_empty_log(shop):
    line = shop([])
    assert "expected a log of at least one row; received an empty one" in line


def test_a_task_without_positives(shop):
    line = shop([row[:-1] + "0" for row in ROWS])
    assert "task 'like' has no positive among 10 defined of 20 training rows" in line


def test_a_schema_that_is_none(shop):
    line = shop(schema="tasks: []")
    assert "a schema needs at least one task" in line


@pytest.fixture
def files(tmp_path):
    (tmp_path / "log.csv").write_text(HEADER + "\n".join(ROWS) + "\n")
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    return tmp_path


def test_a_graph_of_another_experiment(files):
    file = experiment(files, "mogenet")
    arguments = [file, "--data-dir", files, "--output"]
    assert tfmtl("build-graph", *arguments, files / "graph").status == 0
    for override, entry in (
        ("dataset.options.split.validation_from=18", "split_fingerprint"),
        ("graph.edges=all", "edges 'positive', now it is 'all'"),
    ):
        line = refused(
            "train", *arguments, files / "run", "--graph", files / "graph", "--set", override
        )
        assert f"the graph was built with {entry}" in line
        assert "build the graph again" in line


def test_a_graph_that_is_none(files):
    file = experiment(files, "mogenet")
    line = refused(
        "train", file, "--data-dir", files, "--output", files / "run", "--graph", files / "none"
    )
    assert "none is no graph bundle: manifest.json is missing" in line


def test_a_truncated_archive(tmp_path):
    archive = tmp_path / "archives" / movielens.ARCHIVE.filename
    archive.parent.mkdir()
    archive.write_bytes(b"PK" * 50)
    line = refused("fetch", "movielens-1m", "--data-dir", tmp_path)
    assert "archive is truncated or corrupt: received 100 bytes, expected 13,516,114" in line
    assert f"delete {archive} and fetch again" in line


@pytest.mark.parametrize("option", ["--port", "--rest-port"])
def test_a_port_in_use(option, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--port": 0, "--rest-port": 0, option: port}
        line = refused("serve", tmp_path, *(text for pair in ports.items() for text in pair))
    assert f"port {port} of 127.0.0.1 is in use: stop the process that listens on it" in line


def test_a_folder_without_versions(tmp_path):
    line = refused("serve", tmp_path, "--port", 0, "--rest-port", 0)
    assert f"model folder {tmp_path} holds no version" in line


def test_no_server_to_ask(tmp_path):
    (tmp_path / "rows.csv").write_text("user_id,item_id\n1,2\n")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        line = refused("predict", tmp_path / "rows.csv", "--address", address)
    assert f"model 'tfmtl' at {address} cannot be reached" in line
    assert "is the server running?" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{}", "-o", "run"], "cannot read {}: No such file or directory"),
        (["build-graph", "{}", "-o", "graph"], "cannot read {}: No such file or directory"),
        (["compare", "{}", "-o", "runs"], "cannot read {}: No such file or directory"),
        (["demo", "--comparison", "{}"], "cannot read {}: No such file or directory"),
        (["evaluate", "{}"], "no run under {}: expected the folder that tfmtl train wrote"),
        (["export", "{}", "-o", "served"], "no run under {}: expected the folder that tfmtl"),
        (["serve", "{}", "--port", "0", "--rest-port", "0"], "model folder {} does not exist"),
        (["predict", "{}.csv"], "cannot read {}.csv"),
        (["fetch", "movielens-2m"], "nothing to fetch for 'movielens-2m'; expected one of"),
    ],
)
def test_what_is_not_there(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    absent = str(tmp_path / "absent")
    line = refused(*(argument.format(absent) for argument in arguments))
    assert message.format(absent) in line
    assert not list(tmp_path.iterdir())


def test_an_experiment_that_is_none(tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text("dataset: {name: simulator}\nmodel: {name: mogenets}\ntraning: {epochs: 2}\n")
    line = refused("train", file, "--output", tmp_path / "run", "--set", "training.epochs=0")
    for problem in ("unknown model 'mogenets'", "unknown field 'traning'", "training.epochs: "):
        assert problem in line
