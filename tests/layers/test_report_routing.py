import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.report_routing import report_routing
from tfmtl.layers.top_k_router import Routing

# Two rows to expert 0 and one to expert 2; all rows to expert 1 of two.
FIRST = tf.math.log([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.125, 0.25, 0.625]])
SECOND = tf.math.log([[0.25, 0.75]] * 3) + 2


class Layer(keras.layers.Layer):
    def call(self, inputs):
        routings = [Routing.from_logits(logits, k=1, renormalize=False) for logits in inputs]
        report_routing(self, routings)
        return inputs


class Model(keras.Model):
    call = Layer.call


@pytest.mark.parametrize(("owner", "prefix"), [(Layer, "routed_"), (Model, "")])
def test_golden(owner, prefix):
    reporter = owner(name="routed")
    reporter([FIRST, SECOND])
    # L_bal: 3 (2/3 * 1.125/3 + 1/3 * 1.125/3) = 1.125 and 2 * 0.75 = 1.5; L_z: 0 and 2^2.
    assert {metric.name: float(metric.result()) for metric in reporter.metrics} == pytest.approx(
        {
            f"{prefix}balance_loss": (1.125 + 1.5) / 2,
            f"{prefix}z_loss": 2.0,
            f"{prefix}smallest_expert_load": 0.0,
            f"{prefix}largest_expert_load": 1.0,
        },
        abs=1e-5,
    )


def test_is_a_mean_over_batches():
    reporter = Layer(name="routed")
    reporter([FIRST])
    reporter([SECOND])
    values = {metric.name: float(metric.result()) for metric in reporter.metrics}
    np.testing.assert_allclose(values["routed_largest_expert_load"], (2 / 3 + 1) / 2, rtol=1e-5)
