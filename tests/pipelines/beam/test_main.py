import shlex

import pytest
import typer

from tests.cli.command_line import ROOT
from tests.doc_blocks import blocks, unknown_words
from tfmtl.graph import GraphBundle, MacroGraph
from tfmtl.pipelines.beam.__main__ import app, main

EXPERIMENT = """
dataset: {name: simulator, options: {num_users: 40, num_items: 25, num_rows: 900}}
model: {name: mogenet}
training: {batch_size: 100}
"""


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["beam", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.slow
def test_from_an_experiment_to_a_bundle(tmp_path, monkeypatch, capsys):
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    inputs, graph = tmp_path / "inputs", tmp_path / "graph"
    assert run(monkeypatch, "prepare", tmp_path / "experiment.yaml", "-o", inputs) == 0
    train, encoder = inputs / "train.parquet", inputs / "encoder"
    words = ["--train", train, "--encoder", encoder, "--graph", graph]
    assert run(monkeypatch, "adjacency", *words, "--runner", "DirectRunner") == 0
    words = ["--graph", graph, "--measure", "cosine", "--top-k", "3", "--min-common", "0"]
    words += ["--min-degree", "0", "--runner=DirectRunner"]
    assert run(monkeypatch, "similarity", *words) == 0
    assert run(monkeypatch, "assemble", "--graph", graph, "-o", tmp_path / "bundle") == 0
    printed = capsys.readouterr().out
    assert "7 batches" in printed
    assert "720 rows, 0 with a user or item not known" in printed
    bundle = GraphBundle.load(tmp_path / "bundle", verify=True)
    assert bundle.manifest["similarity"]["measure"] == "cosine"
    assert bundle.edge_sets["user_user"].degrees.max() == 3


@pytest.mark.slow
def test_from_the_shards_of_a_graph_to_a_macro_graph(
    shop, timed_shards, tmp_path, monkeypatch, capsys
):
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT + "macro: {user_nodes: 3, recent: 7}")
    shards = tmp_path / "shards"
    words = ["--graph", timed_shards, "--encoder", shop.encoder_folder, "-o", shards]
    words += ["--experiment", tmp_path / "experiment.yaml", "--set", "item_nodes=2"]
    assert run(monkeypatch, "macro", *words, "--runner", "DirectRunner") == 0
    words = ["--macro", shards, "-o", tmp_path / "macro"]
    assert run(monkeypatch, "assemble-macro", *words) == 0
    assert "3 macro users, 2 macro items, 1 version, for scoring" in capsys.readouterr().out
    graph = MacroGraph.load(tmp_path / "macro", verify=True)
    assert graph.recent_items.shape[-1] == 7
    assert graph.manifest["macro"]["item_nodes"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runner", "NoSuchRunner"], "NoSuchRunner"),
        (["--set", "user_nodes"], "error: expected --set field=value; received 'user_nodes'"),
        (["--set", "macro.user_nodes=0"], "error: user_nodes: Input should be greater than"),
        (["--set", "beta=0.5", "--groups", "nowhere"], "error: nowhere/groups.json is missing"),
    ],
)
def test_options_of_the_macro_job(
    shop, timed_shards, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.delenv("TFMTL_TRACEBACK", raising=False)
    output = tmp_path / "macro"
    given = ["--graph", timed_shards, "--encoder", shop.encoder_folder, "-o", output, *words]
    assert run(monkeypatch, "macro", *given) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_expected_errors_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TFMTL_TRACEBACK", raising=False)
    words = ["--train", "none.parquet", "--encoder", tmp_path, "--graph", tmp_path]
    assert run(monkeypatch, "adjacency", *words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path} holds no encoder")


def test_runner_is_passed_to_beam(shop, tmp_path, monkeypatch, capsys):
    words = ["--train", shop.files, "--encoder", shop.encoder_folder, "--graph", tmp_path]
    assert run(monkeypatch, "adjacency", *words, "--runner", "NoSuchRunner") == 1
    assert "NoSuchRunner" in capsys.readouterr().err


def test_documented_calls_exist():
    text = (ROOT / "docs" / "beam.md").read_text(encoding="utf-8")
    command = typer.main.get_command(app)
    calls = []
    for block in blocks(text):
        for line in block.text.replace("\\\n", " ").splitlines():
            before, found, words = line.partition("python -m tfmtl.pipelines.beam ")
            calls += [shlex.split(words)] if found and not before else []
    assert {words[0] for words in calls} == set(command.commands)
    own = {
        option
        for name in command.commands.values()
        for parameter in name.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for words in calls:
        # Options of the runner follow those of the job and are Beam's.
        ours = [word for word in words if not word.startswith("--") or word in own]
        assert not unknown_words(ours, command), words
