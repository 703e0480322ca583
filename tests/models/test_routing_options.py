"""Models whose gates choose experts: `experts="routed"`."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.conftest import (
    as_tensors,
    bank,
    compiled,
    embedded_rows,
    first_batch,
    network,
    randomize,
    softmax,
)
from tests.models.test_bottom import BOTH, BOTTOM, MACRO
from tests.models.test_telemetry import GATES, observed
from tfmtl.models import MODELS, default_hyperparameters
from tfmtl.models.routing_options import routing_options
from tfmtl.testing import assert_gradients_reach_every_weight

# The most experts that a gate of the small model sees.
MOST = {"omoe": 3, "mmoe": 3, "cgc": 3, "ple": 5, "stem": 3, "home": 6, "mogenet": 2}
# One more layer, to have one whose tasks read rows of their own.
DEEPER = {"ple": {"num_layers": 2}}


@pytest.fixture(params=sorted(MOST))
def routable(request):
    return request.param


def test_every_model_with_gated_experts_can_route():
    assert {name for name in MODELS if "experts" in default_hyperparameters(name)} == set(MOST)


def outputs_and_gradients(model, features):
    with tf.GradientTape() as tape:
        logits = model(features)
        loss = tf.add_n([tf.reduce_sum(logits[task] ** 2) for task in model.task_names])
    gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
    return [*logits.values(), *map(tf.convert_to_tensor, gradients)]


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_all_experts_chosen_equal_dense_ones(routable, build, dataset, jit_compile):
    """By one product per expert, and by the blocks that XLA compiles."""
    dense = build(routable, dropout=0.0)
    routed = build(routable, experts="routed", k=MOST[routable])
    randomize(dense)
    for weight in dense.trainable_weights:
        weight.assign(weight / 2)
    routed.set_weights(dense.get_weights())
    features, _, _ = first_batch(dataset(dense))
    states = {key: value for key, value in features.items() if key != "graph"}
    if dense.uses_graph:
        rng = np.random.default_rng(5)
        states["states"] = {
            key: tf.constant(rng.normal(size=[4, 4]), tf.float32)
            for key in (*dense.user_states, *dense.item_states)
        }

    def routed_ones():
        return outputs_and_gradients(routed, states)

    received = tf.function(routed_ones, jit_compile=True) if jit_compile else routed_ones
    expected = outputs_and_gradients(dense, states)
    for left, right in zip(received(), expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5 * max(1, np.abs(right).max()))


def test_a_checkpoint_of_dense_experts_starts_routed_ones(routable, build, tmp_path):
    dense, routed = build(routable), build(routable, experts="routed")
    randomize(dense)
    path = tf.train.Checkpoint(model=dense).save(str(tmp_path / "dense"))
    tf.train.Checkpoint(model=routed).restore(path).assert_existing_objects_matched()
    for left, right in zip(routed.trainable_weights, dense.trainable_weights, strict=True):
        assert left.name.partition("/")[2] == right.name.partition("/")[2]
        np.testing.assert_array_equal(left, right)


def chosen_mixture(gate, experts, k):
    """Row by row: the k most probable experts, by their share of the k, or by p where k is 1."""
    mixtures = []
    for probabilities, own in zip(gate, experts, strict=True):
        best = np.argsort(-probabilities)[:k]
        weights = probabilities[best] / (probabilities[best].sum() if k > 1 else 1)
        mixtures.append(sum(weight * own[n] for weight, n in zip(weights, best, strict=True)))
    return np.stack(mixtures)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("name", ["omoe", "mmoe"])
def test_mmoe_equals_a_loop(build, log, name, k):
    model = build(name, experts="routed", k=k)
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    experts = bank(row, model.experts.get_weights())
    for task in model.task_names:
        own = model.gate if name == "omoe" else model.gates[task]
        mixed = chosen_mixture(softmax(network(row, own.get_weights())), experts, k)
        expected = network(mixed, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [1, 2])
def test_cgc_equals_a_loop(build, log, k):
    model = build("cgc", experts="routed", k=k)
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    (extraction,) = model.extractions
    shared = bank(row, extraction.shared_experts.get_weights())
    for task, name in enumerate(model.task_names):
        weights = extraction.specific_experts.get_weights()
        own = bank(row, [weight[2 * task : 2 * task + 2] for weight in weights])
        gate = softmax(network(row, extraction.gates[task].get_weights()))
        mixed = chosen_mixture(gate, np.concatenate([own, shared], axis=1), k)
        expected = network(mixed, model.towers[name].get_weights())[:, 0]
        np.testing.assert_allclose(logits[name], expected, rtol=1e-4, atol=1e-4)


def test_mogenet_equals_a_loop(build, log):
    channels = ("interaction", "user_similarity", "item_similarity")
    model = build("mogenet", channels=channels, experts="routed", k=2)
    assert model.num_experts == 4
    randomize(model)
    rng = np.random.default_rng(5)
    states = {
        key: rng.normal(size=[11, 4]).astype(np.float32)
        for key in (*model.user_states, *model.item_states)
    }
    logits = model({**as_tensors(log.features), "states": as_tensors(states)})
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    context = np.stack(
        [states[user] * states[item] for user in model.user_states for item in model.item_states],
        axis=1,
    )
    enhanced = np.concatenate([bank(row, model.experts.get_weights()), context], axis=2)
    for task in model.task_names:
        gate = softmax(network(row, model.gates[task].get_weights()))
        mixed = chosen_mixture(gate, enhanced, k=2)
        expected = network(mixed, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


def test_a_task_of_stem_teaches_no_expert_of_another(build, log):
    # All three experts are chosen: those of both tasks and the shared one.
    model = build("stem", experts="routed", k=3)
    randomize(model)
    watched = [model.specific_experts.kernels[0], model.shared_experts.kernels[0]]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(as_tensors(log.features))["click_x"])
    own, shared = tape.gradient(loss, watched)
    assert [bool(np.any(expert)) for expert in own.numpy()] == [False, True]
    assert np.any(shared)


@pytest.mark.parametrize("k", [1, 2])
def test_the_task_trains_its_gate(build, log, k):
    model = build("mmoe", experts="routed", k=k, balance_weight=0.0, z_weight=0.0)
    randomize(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(as_tensors(log.features))["click"])
    kernel = model.gates["click"].trainable_weights[0]
    assert np.abs(tape.gradient(loss, kernel)).max() > 1e-3


def test_losses_of_the_gates_join_the_model_s(build, log):
    model = build("mmoe", experts="routed", k=1, balance_weight=0.25, z_weight=0.5)
    for gate in model.gates.values():
        kernel, _ = gate.get_weights()
        # Every row is sent to expert 2, with logits 0, 0, ln 4 and probabilities 1/6, 1/6, 4/6:
        # L_bal = 3 * 1 * 4/6 = 2, L_z = (ln 6)^2.
        gate.set_weights([0 * kernel, np.array([0, 0, np.log(4)])])
    model(as_tensors(log.features))
    expected = 0.25 * 2 + 0.5 * np.log(6) ** 2
    np.testing.assert_allclose(model.losses, [expected, expected], rtol=1e-5)


@pytest.mark.slow
def test_trains_and_reports_the_loads(routable, build, dataset):
    model = compiled(build(routable, experts="routed", dropout=0.2, l2=1e-3))
    history = model.fit(dataset(model), verbose=0).history
    assert np.isfinite(history["total_loss"]).all()
    assert history["regularization_loss"][0] > 0
    prefixes = {
        "ple": ("extraction_0_", "extraction_1_"),
        "cgc": ("extraction_0_",),
        "home": ("meta_level_", "task_level_"),
    }.get(routable, ("",))
    for prefix in prefixes:
        smallest = history[f"{prefix}smallest_expert_load"][0]
        largest = history[f"{prefix}largest_expert_load"][0]
        assert 0 <= smallest <= largest <= 1
        assert history[f"{prefix}balance_loss"][0] >= 0.9
        assert history[f"{prefix}z_loss"][0] > 0


def test_gradients_reach_every_weight(routable, build, dataset):
    model = build(routable, experts="routed", k=2, **DEEPER.get(routable, {}))
    randomize(model)
    features, _, _ = first_batch(dataset(model, batch_size=11))
    # The weights of uncertainty are those of the loss.
    unused = ["weighting"] if routable == "mogenet" else []
    assert_gradients_reach_every_weight(model, features, unused=unused)


@pytest.mark.slow
@pytest.mark.parametrize("bottom", [BOTTOM, MACRO, BOTH], ids=["mgnn", "macro", "mgnn+macro"])
def test_trains_over_a_bottom(build, dataset, bottom):
    model = compiled(build("mmoe", bottom=bottom, experts="routed", k=1))
    parts = [model.experts, *model.gates.values(), model.graph_bottom, model.macro_bottom]
    parts = [part for part in parts if part is not None]
    assert len(parts) == 3 + len(bottom)
    before = [[weight.numpy() for weight in part.trainable_weights] for part in parts]
    history = model.fit(dataset(model, batch_size=11), verbose=0).history
    assert np.isfinite(history["total_loss"]).all()
    for part, old in zip(parts, before, strict=True):
        pairs = zip(part.trainable_weights, old, strict=True)
        assert any(np.any(left.numpy() != right) for left, right in pairs), part.name


@pytest.mark.parametrize("name", ["mmoe", "ple", "home"])
def test_telemetry_sees_the_gates(build, log, bundle, name):
    model = build(name, experts="routed", k=2)
    randomize(model)
    values = observed(model, log, bundle, batch_size=4)
    for gate, experts in GATES[name].items():
        loads = [
            value for key, value in values.items() if key.startswith(f"telemetry/gate/{gate}/load_")
        ]
        assert len(loads) == experts
        assert sum(loads) == pytest.approx(1, rel=1e-5)


def test_xla_gives_the_same_answers(build, log):
    model = build("mmoe", experts="routed", k=2, gate_units=(5,))
    randomize(model)
    compiled_call = tf.function(lambda batch: model(batch), jit_compile=True)
    for task, logits in compiled_call(as_tensors(log.features)).items():
        np.testing.assert_allclose(
            logits, model(as_tensors(log.features))[task], rtol=1e-4, atol=1e-5
        )


def test_answers_do_not_depend_on_the_batch(routable, build, dataset):
    model = build(routable, experts="routed", k=1)
    randomize(model)
    features, _, _ = first_batch(dataset(model, batch_size=11))
    if model.uses_graph:
        features = {key: value for key, value in features.items() if key != "graph"}
        keys = (*model.user_states, *model.item_states)
        features["states"] = {key: tf.random.stateless_normal([11, 4], [1, 2]) for key in keys}
    together = model(features)
    alone = model(tf.nest.map_structure(lambda values: values[3:4], features))
    for task in model.task_names:
        np.testing.assert_allclose(together[task][3:4], alone[task], rtol=1e-4, atol=1e-5)


def test_half_precision_stays_close(build, log, half_precision):
    keras.mixed_precision.set_global_policy("float32")
    full = build("cgc", experts="routed", k=3)
    randomize(full)
    for weight in full.trainable_weights:
        weight.assign(weight / 4)
    keras.mixed_precision.set_global_policy("mixed_float16")
    half = build("cgc", experts="routed", k=3)
    half.set_weights(full.get_weights())
    expected = full(as_tensors(log.features))
    for task, logits in half(as_tensors(log.features)).items():
        np.testing.assert_allclose(logits, expected[task], atol=2e-2)


@pytest.mark.parametrize("k", [0, 99])
def test_refuses_more_experts_than_gates_see(routable, build, k):
    with pytest.raises(ValueError, match=f"expected k from 1 to {MOST[routable]}, .*received {k}"):
        build(routable, experts="routed", k=k)


def test_refuses_an_unknown_use_of_experts(routable, build):
    with pytest.raises(ValueError, match="'dense' or 'routed'; received 'sparse': take 'dense'"):
        build(routable, experts="sparse")


def test_home_refuses_to_normalise_over_rows_that_are_not_there(build):
    with pytest.raises(ValueError, match=r"received 'batch'.*take normalization='layer'"):
        build("home", experts="routed", normalization="batch")


def test_dense_experts_have_no_options():
    assert routing_options("dense", k=9, balance_weight=1.0, z_weight=1.0, num_experts=2) == {}
