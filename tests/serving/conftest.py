from pathlib import Path

import pytest
import tensorflow as tf

from tfmtl.serving import ModelServer

NAME = "ranker"
VERSION = 12


class Ranker(tf.Module):
    """A model small enough to check by hand, with a table and an input of every common kind."""

    def __init__(self):
        super().__init__()
        keys = tf.constant(["heat", "alien"])
        values = tf.constant([0.25, 0.5])
        self.bias = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, values), default_value=0.0
        )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int64, name="user_id"),
            tf.TensorSpec([None], tf.string, name="item_id"),
            tf.TensorSpec([None, 2], tf.float32, name="age"),
        ]
    )
    def rank(self, user_id, item_id, age):
        click = tf.cast(user_id, tf.float32) * age[:, 0] + age[:, 1] + self.bias.lookup(item_id)
        return {"click": click, "title": tf.strings.upper(item_id), "next": user_id + 1}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x):
        return {"twice": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="raw")])
    def echo(self, raw):
        return {"raw_bytes": raw}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="raw")])
    def text(self, raw):
        return {"raw": raw}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.bool, name="flag"),
            tf.TensorSpec([None], tf.int32, name="count"),
            tf.TensorSpec([None], tf.float64, name="weight"),
            tf.TensorSpec([None], tf.uint8, name="level"),
        ]
    )
    def kinds(self, flag, count, weight, level):
        return {"flag": ~flag, "count": -count, "weight": weight, "level": level}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="a"),
            tf.TensorSpec([None], tf.float32, name="b"),
        ]
    )
    def add(self, a, b):
        return {"sum": a + b, "total": tf.reduce_sum(a)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, name="x")])
    def half(self, x):
        return {"y": x + 1}


def save_ranker(folder: Path) -> None:
    module = Ranker()
    tf.saved_model.save(
        module,
        str(folder),
        signatures={
            "serving_default": module.rank,
            "double": module.double,
            "echo": module.echo,
            "text": module.text,
            "kinds": module.kinds,
            "add": module.add,
            "half": module.half,
        },
    )


@pytest.fixture(scope="session")
def base_path(tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / NAME
    save_ranker(base / str(VERSION))
    # A version under way and a folder that is none must not be taken for the newest.
    (base / "13").mkdir()
    (base / "latest").mkdir()
    return base


@pytest.fixture(scope="session")
def server(base_path):
    with ModelServer(NAME, base_path, grpc_port=0, rest_port=0) as running:
        yield running
