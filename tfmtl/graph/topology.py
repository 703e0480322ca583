"""The fixed shape of every graph here: node sets, edge sets and channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NODE_SETS = ("user", "item")

# Edge set -> (source node set, target node set, feature of its edges). Messages flow from source
# to target, so `item_user` is what a user aggregates.
EDGE_SETS = {
    "item_user": ("item", "user", "behavior"),
    "user_item": ("user", "item", "behavior"),
    "user_user": ("user", "user", "weight"),
    "item_item": ("item", "item", "weight"),
}

# Dtype of an edge feature in a sampled graph; stores may hold behaviours in fewer bits.
FEATURE_DTYPES = {"behavior": np.dtype(np.int32), "weight": np.dtype(np.float32)}

# Channel -> its edge sets; a walk never leaves its channel.
CHANNELS = {
    "interaction": ("item_user", "user_item"),
    "user_similarity": ("user_user",),
    "item_similarity": ("item_item",),
}


def edge_sets_of(channels: Sequence[str]) -> tuple[str, ...]:
    """Edge sets of the given channels, in the order of `EDGE_SETS`.

    Args:
        channels: Distinct names among `CHANNELS`, at least one.

    Returns:
        Names of edge sets.

    Raises:
        ValueError: If a channel is unknown or repeated, or none is given.

    Example:
        >>> edge_sets_of(("user_similarity", "interaction"))
        ('item_user', 'user_item', 'user_user')
    """
    if isinstance(channels, str):
        raise ValueError(f"expected a sequence of channels; received the string {channels!r}")
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown:
        raise ValueError(f"unknown channels {unknown}; expected names among {list(CHANNELS)}")
    if not channels or len(set(channels)) < len(channels):
        raise ValueError(
            f"expected one or more distinct channels among {list(CHANNELS)}; "
            f"received {list(channels)}"
        )
    chosen = {edge_set for name in channels for edge_set in CHANNELS[name]}
    return tuple(name for name in EDGE_SETS if name in chosen)
