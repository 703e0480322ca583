import numpy as np
import pytest

from tfmtl.graph import CSR, GraphBundle


def random_edges(rng, num_rows, num_columns, num_edges, feature):
    """Edges among ids 1..n-1: id 0 is the unknown node and has none."""
    keys = rng.choice((num_rows - 1) * (num_columns - 1), num_edges, replace=False)
    rows, columns = keys // (num_columns - 1) + 1, keys % (num_columns - 1) + 1
    values = {
        "behavior": rng.integers(0, 4, num_edges).astype(np.int32),
        "weight": rng.uniform(1, 9, num_edges).astype(np.float32),
    }[feature]
    return CSR.from_edges(rows, columns, num_rows, num_columns, {feature: values})


@pytest.fixture(scope="session")
def bundle():
    """40 users, 30 items, degrees around 8, all four edge sets."""
    rng = np.random.default_rng(7)
    item_user = random_edges(rng, 40, 30, 300, "behavior")
    return GraphBundle(
        {
            "item_user": item_user,
            "user_item": item_user.transpose(),
            "user_user": random_edges(rng, 40, 40, 150, "weight"),
            "item_item": random_edges(rng, 30, 30, 90, "weight"),
        },
        num_users=40,
        num_items=30,
        manifest={"encoder_fingerprint": "a1", "split_fingerprint": "s1"},
    )
