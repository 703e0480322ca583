import pytest
import yaml
from pydantic import ValidationError

from tests.training.small_experiment import experiment, text
from tfmtl.models import default_hyperparameters
from tfmtl.training import Experiment, ExperimentError, ModelConfig, TrainingConfig

SHORTEST = "{dataset: {name: simulator}, model: {name: mmoe, hyperparameters: {num_experts: 7}}}"


def test_resolved_names_every_hyperparameter_with_its_default():
    resolved = Experiment.from_yaml(SHORTEST).resolved()
    hyperparameters = resolved["model"]["hyperparameters"]
    defaults = default_hyperparameters("mmoe")
    assert hyperparameters.keys() == defaults.keys()
    assert hyperparameters["num_experts"] == 7
    assert hyperparameters["expert_units"] == list(defaults["expert_units"])
    assert resolved["training"] == TrainingConfig().model_dump()
    assert resolved["graph"]["similarity"]["measure"] == "count"
    assert resolved["graph"]["fan_out"] == [10, 10]
    assert resolved["statistics"] is None


@pytest.mark.parametrize("model", ["shared_bottom", "mmoe", "mogenet"])
def test_yaml_round_trip(model, tmp_path):
    one = experiment(model)
    file = tmp_path / "experiment.yaml"
    file.write_text(one.to_yaml(), encoding="utf-8")
    again = Experiment.from_yaml(file)
    assert again.resolved() == one.resolved()
    assert again.to_yaml() == one.to_yaml()
    assert yaml.safe_load(one.to_yaml()) == one.resolved()


def test_dates_in_options_survive_the_round_trip():
    options = "{name: table, options: {split: {kind: by_time, test_from: 2026-05-04}}}"
    one = Experiment.from_yaml(f"{{dataset: {options}, model: {{name: mmoe}}}}")
    again = Experiment.from_yaml(one.to_yaml())
    assert again.dataset.options["split"]["test_from"] == "2026-05-04"
    assert again.resolved() == one.resolved()


def test_overrides_win_over_the_file():
    overrides = [
        "training.epochs=9",
        "training.learning_rate=1e-3",
        "model.hyperparameters.l2=2e-6",
        "graph.similarity.measure=cosine",
        "graph.fan_out=[4, 2]",
        "model.hyperparameters.num_layers=2",
        "statistics=null",
    ]
    one = Experiment.from_yaml(text("mogenet"), overrides)
    assert one.training.epochs == 9
    assert one.training.learning_rate == 0.001
    # Hyper-parameters have no declared type: the number must be one when it leaves the YAML.
    assert one.model.hyperparameters["l2"] == 2e-6
    assert one.graph.similarity.measure == "cosine"
    assert one.graph.similarity.min_degree == 2
    assert one.graph.fan_out == (4, 2)
    assert one.statistics is None


def test_an_override_makes_the_section_that_the_file_leaves_out():
    one = Experiment.from_yaml(f"{SHORTEST[:-1]}, training: }}", ["training.epochs=2"])
    assert one.training == TrainingConfig(epochs=2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epochs"], "expected an override section.field=value; received 'training.ep"),
        (["dataset.name.x=1"], "'dataset.name.x=1': 'x' is not inside a section, but inside 'sim"),
        (["training.epoch=3"], r"training.epoch: unknown field 'epoch'; expected some of \['batch"),
        (["training.epochs=0"], "training.epochs: .*greater than or equal to 1; received 0"),
        (["training.seed=-1"], "training.seed: .*greater than or equal to 0; received -1"),
        (["training.epochs=two"], "training.epochs: .*valid integer.*; received 'two'"),
        (
            ["training.precision=half"],
            "training.precision: .*'float32', 'bfloat16' or 'float16'; r",
        ),
        (["training.ema_momentum=1"], "training.ema_momentum: .*less than 1; received 1"),
        (["training.clip_norm=0"], "training.clip_norm: .*greater than 0; received 0"),
        (["training.steps_per_execution=0"], "steps_per_execution: .*equal to 1; received 0"),
        (["training.warmup_steps=-1"], "training.warmup_steps: .*equal to 0; received -1"),
        (["training.checkpoint_every=0"], "training.checkpoint_every: .*equal to 1; received 0"),
        (["training.checkpoint_minutes=0"], "checkpoint_minutes: .*greater than 0; received 0"),
        (["training.monitor=ece"], "training.monitor: .*'auc', 'gauc' or 'log_loss'; received 'e"),
        (["speed=1"], r"speed: unknown field 'speed'; expected some of \['dataset', 'statistics'"),
        (
            ["graph.similarity.k=1"],
            r"unknown field 'k'; expected some of \['measure', 'min_degree'",
        ),
        (["statistics.entities=[]"], "statistics.entities: .*at least 1 item"),
        (
            ["model.hyperparameters.heads=4"],
            r"model 'mmoe' has no hyper-parameters \['heads'\]; expected some of \['bal",
        ),
        (["model.name=mmoo"], r"unknown model 'mmoo'; expected one of .*'mmoe', 'mogenet'"),
        (["training.epochs=[1"], "not YAML: while parsing"),
    ],
)
def test_a_bad_override_is_named_in_one_line(overrides, message):
    with pytest.raises(ExperimentError, match=message) as caught:
        Experiment.from_yaml(SHORTEST, overrides)
    assert str(caught.value).startswith("experiment: ")
    assert "\n" not in str(caught.value)


def test_all_problems_are_named_at_once():
    with pytest.raises(ExperimentError) as caught:
        Experiment.from_yaml("{dataset: {nam: a}, training: {epochs: -1}}")
    problems = str(caught.value).removeprefix("experiment: ").split("; ")
    assert sorted(problem.partition(":")[0] for problem in problems if ":" in problem) == [
        "dataset.nam",
        "dataset.name",
        "model",
        "training.epochs",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*none.yaml: No such file or directory"),
        ("", "none.yaml: Input should be a valid dictionary .*; received None"),
        ("- a\n- b\n", "none.yaml: Input should be a valid dictionary .*; received \\['a', 'b'\\]"),
        ("a: [", "none.yaml: not YAML: .*line 1, column 5"),
        (b"\xff\xfe\x00", "none.yaml: 'utf-8' codec can't decode"),
    ],
)
def test_a_file_that_is_no_experiment(content, message, tmp_path):
    file = tmp_path / "none.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ExperimentError, match=message) as caught:
        Experiment.from_yaml(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["graph.fan_out=[3, 3]"], "fan_out has 2 hops and the model 1 layers: give num_layers"),
        (["model.hyperparameters={}"], "fan_out has 1 hops and the model 2 layers"),
    ],
)
def test_every_layer_of_a_graph_model_has_a_hop(overrides, message):
    with pytest.raises(ExperimentError, match=message):
        experiment("mogenet", *overrides)
    # Other models do not sample.
    experiment("mmoe", *overrides)


def test_sections_check_themselves():
    with pytest.raises(ValidationError, match="no hyper-parameters"):
        ModelConfig(name="mmoe", hyperparameters={"heads": 2})
    with pytest.raises(ValidationError, match="frozen"):
        experiment().training.epochs = 4


def test_uses_graph():
    assert experiment("mogenet").uses_graph
    assert not experiment("mmoe").uses_graph


def test_a_graph_model_learns_the_largest_fan_out():
    graph = Experiment.from_yaml(
        "{dataset: {name: simulator}, graph: {fan_out: [3, 7]}, model: {name: mogenet}}"
    )
    assert graph.resolved()["model"]["hyperparameters"]["max_neighbors"] == 7
    chosen = Experiment.from_yaml(graph.to_yaml(), ["model.hyperparameters.max_neighbors=9"])
    assert chosen.resolved()["model"]["hyperparameters"]["max_neighbors"] == 9
    plain = Experiment.from_yaml("{dataset: {name: simulator}, model: {name: mmoe}}")
    assert "max_neighbors" not in plain.resolved()["model"]["hyperparameters"]


def test_one_thing_alone_sets_the_learning_rate():
    overrides = ["training.learning_rate_decay=0.5", "training.learning_rate_schedule=cosine"]
    with pytest.raises(ExperimentError, match=r"0\.5 and learning_rate_schedule 'cosine' both set"):
        Experiment.from_yaml(text("mmoe"), overrides)


def test_a_graph_model_is_compiled_for_a_few_sizes():
    with pytest.raises(ExperimentError, match=r"graph\.buckets is 0: XLA would compile .* such as"):
        experiment("mogenet", "training.jit_compile=true")
    experiment("mogenet", "training.jit_compile=true", "graph.buckets=2")
    # Other models have no graph whose size changes.
    experiment("mmoe", "training.jit_compile=true")
