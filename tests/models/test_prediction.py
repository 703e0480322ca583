import numpy as np
import pytest

from tests.models.conftest import randomize
from tfmtl.models import predict_log


@pytest.mark.parametrize("batch_size", [4, 100])
def test_rows_come_in_the_order_of_the_log(build, dataset, log, edge_sets, name, batch_size):
    model = build(name)
    randomize(model)
    states = model.compute_node_states(edge_sets) if model.uses_graph else None
    received = predict_log(model, log, node_states=states, batch_size=batch_size)
    assert sorted(received) == ["click", "click_x"]
    for task, probabilities in received.items():
        batches = [model.probabilities(features)[task] for features, _, _ in dataset(model)]
        np.testing.assert_allclose(probabilities, np.concatenate(batches), atol=1e-5)


def test_a_graph_model_needs_states(build, log):
    with pytest.raises(
        ValueError, match=r"MoGENet uses a graph .* pass model\.compute_node_states"
    ):
        predict_log(build("mogenet"), log)
