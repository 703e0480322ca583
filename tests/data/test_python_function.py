import gc

import numpy as np
import tensorflow as tf

from tfmtl.data.python_function import SharedFunctions, python_function


def test_is_a_numpy_function_outside_of_shared_functions():
    values = python_function(
        lambda x: [x + 1, x.astype(np.float32) / 2], [tf.constant([3, 4])], [tf.int32, tf.float32]
    )
    np.testing.assert_array_equal(values[0], [4, 5])
    np.testing.assert_array_equal(values[1], [1.5, 2.0])


def test_equal_graphs_have_equal_names():
    made = []
    for _ in range(2):
        with SharedFunctions("equal") as functions:
            tf.function(
                lambda x: python_function(lambda v: v, [x], tf.int32)
            ).get_concrete_function(tf.TensorSpec([], tf.int32))
            python_function(lambda v: v, [tf.constant(1)], tf.int32)
        made.append(functions.names)
    assert made == [["equal/0", "equal/1"]] * 2


def test_a_graph_runs_the_function_that_was_made_last_under_its_name():
    """What a process does that made the same graph over its own data."""

    def graph_of(data):
        with SharedFunctions("own data") as functions:
            graph = tf.function(
                lambda place: python_function(lambda p: data[p], [place], tf.int64)
            ).get_concrete_function(tf.TensorSpec([], tf.int32))
        return graph, functions

    first, _ = graph_of(np.array([10, 11, 12]))
    assert int(first(tf.constant(2))) == 12
    _, kept = graph_of(np.array([20, 21, 22]))
    assert int(first(tf.constant(2))) == 22
    del kept


def test_functions_live_as_long_as_the_object_that_holds_them():
    with SharedFunctions("lasting") as functions:
        dataset = tf.data.Dataset.range(3).map(
            lambda x: python_function(lambda v: v * 10, [x], tf.int64)
        )
    gc.collect()
    assert [int(value) for value in dataset] == [0, 10, 20]
    assert functions.names == ["lasting/0"]


def test_nested_blocks_end_where_they_began():
    with SharedFunctions("outer") as outer:
        with SharedFunctions("inner") as inner:
            python_function(lambda: 1, [], tf.int64)
        python_function(lambda: 1, [], tf.int64)
    python_function(lambda: 1, [], tf.int64)
    assert (outer.names, inner.names) == (["outer/0"], ["inner/0"])
