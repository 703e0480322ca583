import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers import ExpertLevel, Extraction, Gate, Recording, SelfGate


def recorded(layer, *inputs):
    with Recording() as recording:
        layer(*inputs)
    return {gate.name: gate.experts for gate in recording.gates}


def test_a_gate_hands_over_its_weights():
    layer = Gate(2, name="gate")
    layer.build([None, 1])
    layer.set_weights([np.array([[math.log(3), 0]]), np.zeros(2)])
    inputs = tf.constant([[1.0], [0.0]])
    with Recording() as recording:
        outputs = layer(inputs)
    (gate,) = recording.gates
    assert (gate.name, gate.experts) == ("gate", ("0", "1"))
    np.testing.assert_allclose(gate.weights, [[3 / 4, 1 / 4], [1 / 2, 1 / 2]], rtol=1e-6)
    np.testing.assert_array_equal(gate.weights, outputs)


def test_private_experts_have_names_that_others_do_not_see():
    row = tf.ones([3, 4])
    layer = Extraction(2, 2, 1, [4], name="extraction")
    assert recorded(layer, row, row) == {
        "extraction/gate_0": ("task_0_0", "task_0_1", "shared_0"),
        "extraction/gate_1": ("task_1_0", "task_1_1", "shared_0"),
        "extraction/shared_gate": ("task_0_0", "task_0_1", "task_1_0", "task_1_1", "shared_0"),
    }


def test_groups_of_a_level_are_named_in_the_order_in_which_they_are_seen():
    layer = ExpertLevel([[1, 0], [0, 1]], 2, [4], name="level")
    first, second = ("group_0_0", "group_0_1"), ("group_1_0", "group_1_1")
    assert recorded(layer, tf.ones([3, 4])) == {
        "level/gate_0": second + first,
        "level/gate_1": first + second,
        "level/self_gate_0": first,
        "level/self_gate_1": second,
    }


def test_a_single_expert_is_no_choice():
    assert recorded(Gate(1), tf.ones([3, 4])) == {}
    assert recorded(SelfGate(1), tf.ones([3, 4]), tf.ones([3, 1, 2])) == {}


def test_recordings_end_with_their_block_and_the_inner_one_records():
    layer, inputs = Gate(2), tf.ones([3, 4])
    with Recording() as outer:
        with Recording() as inner:
            layer(inputs)
        assert (len(outer.gates), len(inner.gates)) == (0, 1)
        layer(inputs)
    with pytest.raises(KeyError), Recording() as failed:
        raise KeyError
    layer(inputs)
    assert (len(outer.gates), len(inner.gates), len(failed.gates)) == (1, 1, 0)


def operations(function, inputs):
    graph = function.get_concrete_function(inputs).graph
    return [(operation.name, operation.type) for operation in graph.get_operations()]


def test_a_graph_is_the_same_with_and_without():
    layer, inputs = Extraction(2, 2, 1, [4], name="extraction"), tf.ones([3, 4])
    layer(inputs, inputs)
    plain = operations(tf.function(lambda row: layer(row, row)), inputs)
    with Recording() as recording:
        assert operations(tf.function(lambda row: layer(row, row)), inputs) == plain
    assert len(recording.gates) == 3


def test_what_was_traced_hands_nothing_over():
    layer = tf.function(Gate(2))
    layer(tf.ones([3, 4]))
    with Recording() as recording:
        layer(tf.ones([3, 4]))
    assert recording.gates == []


def test_weights_are_in_full_precision_under_a_half_policy():
    layer = Gate(2, dtype="mixed_float16", name="gate")
    layer.build([None, 4])
    with Recording() as recording:
        tf.function(layer).get_concrete_function(tf.TensorSpec([None, 4]))
    (gate,) = recording.gates
    assert (gate.weights.dtype, gate.weights.shape.as_list()) == (tf.float32, [None, 2])


def test_the_tape_watches_what_is_shared():
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    with (
        tf.GradientTape(watch_accessed_variables=False) as tape,
        Recording(tape) as recording,
    ):
        row = tf.constant([[2.0, 3.0]])
        Recording.show_shared(row)
        output = layer(row) ** 2
    assert [part.ref() for part in recording.shared] == [row.ref()]
    np.testing.assert_allclose(tape.gradient(output, row), [[10.0, 10.0]])


@pytest.mark.parametrize("kind", [Gate, SelfGate])
def test_there_is_one_name_for_each_expert(kind):
    assert kind(2, expert_names=["a", "b"]).get_config()["expert_names"] == ["a", "b"]
    with pytest.raises(ValueError, match=r"one name for each of 3 experts; received \['a', 'b'\]"):
        kind(3, expert_names=["a", "b"])
