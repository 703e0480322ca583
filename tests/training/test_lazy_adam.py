import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.training import LazyAdam


def slices(rows, values, size):
    values = tf.constant(values, tf.float32)
    return tf.IndexedSlices(values, tf.constant(rows), tf.constant([size, values.shape[1]]))


def test_golden():
    table = tf.Variable([[5.0, 5.0], [1.0, 2.0], [5.0, 5.0]])
    optimizer = LazyAdam(0.1, beta_1=0.5, beta_2=0.75, epsilon=0.0)
    optimizer.apply_gradients([(slices([1], [[2.0, -4.0]], 3), table)])
    # First step: m = g / 2, v = g^2 / 4, and sqrt(1 - .75) / (1 - .5) = 1, so m / sqrt(v) = +-1.
    np.testing.assert_allclose(table, [[5, 5], [0.9, 2.1], [5, 5]], rtol=1e-6)
    optimizer.apply_gradients([(slices([1], [[2.0, 2.0]], 3), table)])
    # m = [1 / 2 + 1, -2 / 2 + 1] = [1.5, 0], v = [.75 * 1 + 1, .75 * 4 + 1] = [1.75, 4], and
    # sqrt(1 - .5625) / (1 - .25) = .881917.
    step = 0.1 * 0.881917 * 1.5 / 1.75**0.5
    np.testing.assert_allclose(table, [[5, 5], [0.9 - step, 2.1], [5, 5]], rtol=1e-6)


def test_is_adam_where_every_row_has_a_gradient():
    random = np.random.default_rng(0)
    start = random.normal(size=(6, 3)).astype(np.float32)
    lazy, dense = tf.Variable(start), tf.Variable(start)
    optimizers = LazyAdam(0.01), keras.optimizers.Adam(0.01)
    for _ in range(5):
        gradient = random.normal(size=(6, 3)).astype(np.float32)
        order = random.permutation(6)
        optimizers[0].apply_gradients([(slices(order, gradient[order], 6), lazy)])
        optimizers[1].apply_gradients([(tf.constant(gradient), dense)])
    np.testing.assert_allclose(lazy, dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (4, 2, 3)])
def test_is_adam_on_dense_gradients(shape):
    random = np.random.default_rng(1)
    start = random.normal(size=shape).astype(np.float32)
    lazy, dense = tf.Variable(start), tf.Variable(start)
    optimizers = (
        LazyAdam(0.01, global_clipnorm=0.5),
        keras.optimizers.Adam(0.01, global_clipnorm=0.5),
    )
    for _ in range(4):
        gradient = tf.constant(random.normal(size=shape).astype(np.float32))
        optimizers[0].apply_gradients([(gradient, lazy)])
        optimizers[1].apply_gradients([(gradient, dense)])
    np.testing.assert_allclose(lazy, dense, rtol=1e-5, atol=1e-6)


def test_gradients_of_a_row_that_is_looked_up_twice_are_summed():
    tables = [tf.Variable(tf.ones([4, 1])) for _ in range(2)]
    LazyAdam(0.1, epsilon=1.0).apply_gradients([(slices([2, 0, 2], [[1], [5], [2]], 4), tables[0])])
    LazyAdam(0.1, epsilon=1.0).apply_gradients([(slices([0, 2], [[5], [3]], 4), tables[1])])
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-6)


def test_rows_without_a_gradient_stay_as_they_are():
    table = tf.Variable(tf.ones([4, 2]))
    optimizer = LazyAdam(0.1)
    optimizer.apply_gradients([(slices([0, 1], tf.ones([2, 2]), 4), table)])
    before = table.numpy()
    optimizer.apply_gradients([(slices([1, 2], tf.ones([2, 2]), 4), table)])
    np.testing.assert_array_equal(table.numpy()[[0, 3]], before[[0, 3]])
    assert (table.numpy()[[1, 2]] < before[[1, 2]]).all()


def test_xla_makes_the_same_steps():
    random = np.random.default_rng(2)
    start = random.normal(size=(9, 4)).astype(np.float32)
    batches = [random.integers(9, size=16) for _ in range(4)]
    found = {}
    for compiled in (False, True):
        table, optimizer = tf.Variable(start), LazyAdam(0.05)
        optimizer.build([table])

        @tf.function(jit_compile=compiled)
        def step(ids, table=table, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(tf.gather(table, ids) - 1.0))
            optimizer.minimize(loss, [table], tape=tape)

        for ids in batches:
            step(tf.constant(ids))
        found[compiled] = table.numpy()
    np.testing.assert_allclose(found[True], found[False], rtol=1e-5)


def test_no_operation_of_a_sparse_step_is_as_large_as_the_table():
    table, optimizer = tf.Variable(tf.zeros([1000, 4])), LazyAdam()
    optimizer.build([table])

    @tf.function
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, ids))
        optimizer.minimize(loss, [table], tape=tape)

    graph = step.get_concrete_function(tf.TensorSpec([8], tf.int32)).graph
    whole = [
        operation.name
        for operation in graph.get_operations()
        for output in operation.outputs
        if output.dtype == tf.float32 and output.shape.rank and output.shape[0] == 1000
    ]
    assert whole == []
    assert "ResourceScatterUpdate" in {operation.type for operation in graph.get_operations()}


def test_checkpoints_hold_the_moments():
    def trained(steps, restored=None):
        table, optimizer = tf.Variable(tf.ones([3, 2])), LazyAdam(0.1)
        optimizer.build([table])
        checkpoint = tf.train.Checkpoint(table=table, optimizer=optimizer)
        if restored:
            checkpoint.read(restored).assert_consumed()
        for number in steps:
            optimizer.apply_gradients([(slices([number % 3], [[1.0, number]], 3), table)])
        return table, checkpoint

    whole, _ = trained(range(6))
    _, checkpoint = trained(range(3))
    resumed, _ = trained(range(3, 6), checkpoint.write("ram://moments"))
    np.testing.assert_array_equal(resumed, whole)


@pytest.mark.parametrize("option", [{"amsgrad": True}, {"weight_decay": 0.1}])
def test_options_that_move_all_rows_are_refused(option):
    with pytest.raises(ValueError, match="leaves rows without a gradient alone; received amsgrad="):
        LazyAdam(**option)


def test_is_rebuilt_from_its_config():
    optimizer = keras.optimizers.get(keras.optimizers.serialize(LazyAdam(0.02, beta_1=0.8)))
    assert isinstance(optimizer, LazyAdam)
    assert (float(optimizer.learning_rate), optimizer.beta_1) == (pytest.approx(0.02), 0.8)
