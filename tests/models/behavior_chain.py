"""Rows of a chain click -> like -> buy, with every case of what can be unknown."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.schema import Task

# Children before their parents: what is built on a chain must not depend on the list.
CHAIN = (
    Task(name="buy", parent="like", order=2),
    Task(name="click", order=0),
    Task(name="like", parent="click", order=1),
)
PARENTS = {"click": ("click",), "like": ("click", "like"), "buy": ("click", "like", "buy")}

NAN = np.nan
LABELS = {
    name: np.array(values, np.float32)
    for name, values in {
        "click": [0, 1, 1, 1, NAN, 1, 1, 0, 1, 1, 0],
        "like": [NAN, 0, 1, 1, NAN, NAN, 1, NAN, 0, 1, NAN],
        "buy": [NAN, NAN, 0, 1, NAN, NAN, NAN, NAN, NAN, 1, NAN],
    }.items()
}
WEIGHTS = {name: (~np.isnan(values)).astype(np.float32) for name, values in LABELS.items()}
# Whether every behaviour up to this one happened, over the rows on which that is known.
JOINT = {
    name: np.array(values, np.float32)
    for name, values in {
        "click": [0, 1, 1, 1, NAN, 1, 1, 0, 1, 1, 0],
        "like": [0, 0, 1, 1, NAN, NAN, 1, 0, 0, 1, 0],
        "buy": [0, 0, 0, 1, NAN, NAN, NAN, 0, 0, 1, 0],
    }.items()
}


def chain_batch(log, rows=slice(None), **weights):
    """A batch of the log's features with the chain's labels; `weights` replaces some."""
    features = {key: tf.constant(values[rows]) for key, values in log.features.items()}
    labels = {name: tf.constant(values[rows]) for name, values in LABELS.items()}
    return (
        features,
        labels,
        {name: tf.constant(values[rows]) for name, values in {**WEIGHTS, **weights}.items()},
    )


def chain_batches(log):
    """Batches of 4, 4 and 3 rows: `fit` and `evaluate` see unequal ones."""
    parts = [chain_batch(log, slice(start, start + 4)) for start in (0, 4, 8)]
    datasets = [tf.data.Dataset.from_tensors(part) for part in parts]
    return datasets[0].concatenate(datasets[1]).concatenate(datasets[2])


def step_probabilities(model, log):
    """P(task | its parent) per task, `float64 [11]`."""
    logits = model({key: tf.constant(values) for key, values in log.features.items()})
    return {
        name: 1 / (1 + np.exp(-np.asarray(values, np.float64))) for name, values in logits.items()
    }


def joint_losses(steps):
    """Joint cross entropy of every row per task, NaN where the joint label is unknown."""
    losses = {}
    for name, chain in PARENTS.items():
        joint = np.prod([steps[step] for step in chain], axis=0)
        losses[name] = -np.where(JOINT[name] == 1, np.log(joint), np.log1p(-joint))
        losses[name][np.isnan(JOINT[name])] = np.nan
    return losses


def gradients_of(model, batch, name=None):
    """Gradients of one task's loss, or of the total, in all trainable weights; dense arrays."""
    with tf.GradientTape() as tape:
        if name is None:
            loss = model.compute_loss(batch, training=True)
        else:
            features, labels, weights = batch
            outputs = model.loss_inputs(features, training=True)
            loss = model.task_losses(outputs, labels, weights)[name]
    gradients = tape.gradient(
        loss, model.trainable_weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return float(loss), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def moved(model, layer, gradients):
    """Whether any weight of a layer of the model has a gradient."""
    own = {id(weight) for weight in layer.trainable_weights}
    return any(
        np.any(gradient)
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
        if id(weight) in own
    )


def settle(model, features, labels, weights, steps=400):
    """Trains on one batch until the model has nothing left to learn from it."""
    optimizer = keras.optimizers.Adam(0.02)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = model.compute_loss((features, labels, weights), training=True)
        optimizer.minimize(loss, model.trainable_variables, tape=tape)

    optimizer.build(model.trainable_variables)
    for _ in range(steps):
        step()
    return {name: values.numpy() for name, values in model.probabilities(features).items()}


def equal_rows(log):
    """Sixteen equal rows of click rate 1/2, like rate 3/4 and purchase rate 1/3."""
    features = {key: tf.constant(np.repeat(x[:1], 16, 0)) for key, x in log.features.items()}
    click = np.repeat([1.0, 0.0], 8)
    like = np.repeat([1.0, 0.0, NAN], [6, 2, 8])
    buy = np.repeat([1.0, 0.0, NAN], [2, 4, 10])
    columns = {"click": click, "like": like, "buy": buy}
    labels = {name: tf.constant(x, tf.float32) for name, x in columns.items()}
    weights = {name: tf.constant(~np.isnan(x), tf.float32) for name, x in columns.items()}
    return features, labels, weights
