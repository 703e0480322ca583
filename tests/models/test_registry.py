import pyarrow as pa
import pytest

from tfmtl.data import FeatureEncoder, TrainingLog
from tfmtl.datasets import load
from tfmtl.graph import MacroConfig, build_macro_graph
from tfmtl.models import MODELS, MoGENet, build_model, default_hyperparameters
from tfmtl.schema import Feature, Schema, Task

ROWS = {"user_id": [7, 7, 9], "item_id": [3, 5, 5], "tab": [1, 2, 1], "click": [1, 0, 1]}


def encoder_and_schema(**ids):
    schema = Schema(tasks=[Task(name="click")], features=[Feature(name="tab")], **ids)
    return FeatureEncoder.fit(TrainingLog(pa.table(ROWS), schema)), schema


@pytest.fixture(scope="module")
def with_ids():
    return encoder_and_schema()


@pytest.fixture(scope="module")
def without_ids():
    return encoder_and_schema(user=None, item=None)


@pytest.fixture(scope="module")
def macro_graph_of_rows(with_ids):
    encoder, schema = with_ids
    train = TrainingLog(pa.table(ROWS), schema)
    return build_macro_graph(train, encoder, MacroConfig(user_nodes=1, item_nodes=2))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_builds_every_model_with_its_defaults(with_ids, macro_graph_of_rows, name):
    encoder, schema = with_ids
    model = build_model(name, schema, encoder, {}, macro_graph=macro_graph_of_rows)
    assert type(model) is MODELS[name]
    assert model.task_names == ("click",)
    model.build_weights()
    reads_ids_alone = name in ("ngcf", "light_gcn", "pogcn")
    assert [spec.name for spec in model.embedding.inputs] == (
        ["user_id", "item_id"] if reads_ids_alone else ["user_id", "item_id", "tab"]
    )


def test_hyperparameters_reach_the_model(with_ids):
    encoder, schema = with_ids
    model = build_model("mogenet", schema, encoder, {"dim": 8, "channels": ["interaction"]})
    assert isinstance(model, MoGENet)
    assert (
        model.graph_bottom.mgnn.dim,
        model.graph_bottom.mgnn.channels,
        model.experts.num_experts,
    ) == (
        8,
        ("interaction",),
        1,
    )
    # Users 7 and 9 and the unknown one; items 3 and 5 and the unknown one.
    assert {side: nodes.num_nodes for side, nodes in model.graph_bottom.node_features.items()} == {
        "user": 3,
        "item": 3,
    }


@pytest.mark.parametrize(
    "name",
    [
        "single_task",
        "shared_bottom",
        "cross_stitch",
        "omoe",
        "mmoe",
        "snr_trans",
        "cgc",
        "ple",
        "stem",
        "home",
        "grec",
        "esmm",
        "escm2",
        "aitm",
    ],
)
def test_a_log_without_ids_has_models_without_graph(without_ids, name):
    encoder, schema = without_ids
    build_model(name, schema, encoder, {}).build_weights()


def test_a_graph_model_needs_ids(without_ids):
    encoder, schema = without_ids
    with pytest.raises(ValueError, match="'mogenet' needs a graph, but the schema names no user"):
        build_model("mogenet", schema, encoder, {})
    with pytest.raises(ValueError, match="'mgoe' needs a graph, but the schema names no user"):
        build_model("mgoe", schema, encoder, {})


@pytest.mark.parametrize("name", ["mgoe", "macgnn"])
def test_a_model_of_the_macro_graph_needs_one(with_ids, name):
    encoder, schema = with_ids
    with pytest.raises(
        ValueError, match=rf"'{name}' reads a macro graph and received none: pass macro_graph="
    ):
        build_model(name, schema, encoder, {})


def test_a_model_of_the_macro_graph_may_read_ids_alone(with_ids, macro_graph_of_rows):
    encoder, schema = with_ids
    names = [spec.name for spec in encoder.inputs]
    model = build_model(
        "mgoe", schema, encoder, {}, exclude_inputs=names, macro_graph=macro_graph_of_rows
    )
    model.build_weights()
    assert model.embedding.inputs == ()
    with pytest.raises(ValueError, match="MMoE reads features and received no inputs: leave some"):
        build_model("mmoe", schema, encoder, {}, exclude_inputs=names)


def test_names_unknown_hyperparameters(with_ids):
    encoder, schema = with_ids
    options = {"num_experts": 2, "experts_of_all": 2, "node_features": {}}
    with pytest.raises(
        ValueError,
        match=r"'mmoe' has no hyper-parameters \['experts_of_all', 'node_features'\]; .*'num_exp",
    ):
        build_model("mmoe", schema, encoder, options)


def test_names_an_unknown_model(with_ids):
    encoder, schema = with_ids
    with pytest.raises(ValueError, match=r"unknown model 'mmmoe'; expected one of \[.*'mmoe', "):
        build_model("mmmoe", schema, encoder, {})


def test_defaults_leave_out_what_has_none():
    defaults = default_hyperparameters("mogenet")
    assert defaults["kappa"] == "product"
    assert not {"tasks", "inputs", "node_features", "kwargs"} & set(defaults)
    with pytest.raises(ValueError, match="unknown model 'MMoE'"):
        default_hyperparameters("MMoE")


def test_numbers_in_bins():
    loaded = load("simulator", num_users=20, num_items=10, num_rows=400)
    encoder = FeatureEncoder.fit(loaded.split.train)
    plain, binned = (
        build_model("mmoe", loaded.log.schema, encoder, {}, numeric_bins=bins) for bins in (0, 5)
    )
    # The price of an item is the only number.
    for side, more in (("user", 0), ("item", 5), ("context", 0)):
        assert binned.embedding.width(side) == plain.embedding.width(side) + more
