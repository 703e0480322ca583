"""What a model tells its gates about choosing experts."""

from __future__ import annotations

from typing import Any, Literal

ExpertUse = Literal["dense", "routed"]


def routing_options(
    experts: ExpertUse, *, k: int, balance_weight: float, z_weight: float, num_experts: int
) -> dict[str, Any]:
    """Options by which gates, and layers that hold gates, choose experts or mix all.

    Args:
        experts: `dense` or `routed`.
        k: Experts that a gate chooses for a row.
        balance_weight: Weight of the load balance loss of each gate.
        z_weight: Weight of the loss on the size of each gate's logits.
        num_experts: The most experts that a gate of the model sees.

    Returns:
        Keyword arguments of `Gate`, `Extraction` and `ExpertLevel`; none for dense experts.

    Raises:
        ValueError: If `experts` is unknown, or routed and `k` is not from 1 to `num_experts`.

    Example:
        >>> routing_options("routed", k=2, balance_weight=0.01, z_weight=0.0, num_experts=4)
        {'k': 2, 'balance_weight': 0.01, 'z_weight': 0.0}
    """
    if experts not in ("dense", "routed"):
        raise ValueError(
            f"expected experts 'dense' or 'routed'; received {experts!r}: take 'dense' to "
            "evaluate all experts on every row"
        )
    if experts == "dense":
        return {}
    if not 1 <= k <= num_experts:
        raise ValueError(
            f"expected k from 1 to {num_experts}, the most experts that a gate sees; received {k}: "
            "choose fewer experts for a row, or have more of them"
        )
    return {"k": int(k), "balance_weight": balance_weight, "z_weight": z_weight}
