import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.training.step_hook import after_each_step, forget_hooks


@pytest.fixture
def model():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", steps_per_execution=2)
    return model


def fit(model):
    model.fit(tf.ones([8, 1]), tf.ones([8, 1]), batch_size=2, verbose=0)


def test_hooks_see_every_step_and_its_logs(model):
    steps, losses = tf.Variable(0), tf.Variable(0.0)
    after_each_step(model, lambda logs: steps.assign_add(1))
    after_each_step(model, lambda logs: losses.assign_add(logs["loss"]))
    fit(model)
    # Of two steps that Keras makes in one call none is left out.
    assert int(steps) == 4
    assert float(losses) > 0


def test_a_model_that_has_been_trained_is_traced_anew(model):
    fit(model)
    steps = tf.Variable(0)
    after_each_step(model, lambda logs: steps.assign_add(1))
    fit(model)
    assert int(steps) == 4


def test_forgotten_hooks_are_not_called(model):
    steps = tf.Variable(0)
    after_each_step(model, lambda logs: steps.assign_add(1))
    fit(model)
    forget_hooks(model)
    fit(model)
    assert int(steps) == 4
    forget_hooks(model)
