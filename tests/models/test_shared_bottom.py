import numpy as np

from tests.models.conftest import as_tensors, embedded_rows, leaky, network, randomize


def test_golden(build, log):
    model = build("shared_bottom")
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    kernel, bias = model.bottom.get_weights()
    shared = leaky(row @ kernel + bias)
    for task in model.task_names:
        expected = network(shared, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


def test_number_of_weights(build):
    # Table 33 * 4, bottom [19, 6] + 6, per task [6, 4] + 4 and [4, 1] + 1.
    weights = build("shared_bottom").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4 + 19 * 6 + 6 + 2 * (6 * 4 + 4 + 4 + 1)
    )
