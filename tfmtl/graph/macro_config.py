"""Settings of a macro graph."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Numbers of macro nodes take 16 bits while tables are made.
MOST_NODES = 65_000


class MacroConfig(BaseModel):
    """How users and items are grouped into macro nodes, and what is tabulated about them.

    Args:
        user_nodes: Macro user nodes G_U.
        item_nodes: Macro item nodes G_I; without meaning where `item_groups` names a feature.
        behaviors: Tasks whose positive rows are edges; all of them when not given.
        scores: `merged` weighs an edge by `behavior_scores`, `count` by 1, as MacGNN does.
        beta: Exponent of the merged scores.
        item_groups: A categorical item feature whose values are the macro item nodes, as the
            categories of MacGNN; items are clustered when not given.
        cluster_users_on: `neighborhoods` clusters users on their row of S S^T, `item_groups` on
            their sums over macro item nodes, as MacGNN does.
        activity: How an inactive node is told, see `preference_weights`: by a `quantile` of the
            nodes' summed scores or by a `value`.
        user_threshold: That quantile or value, for users.
        item_threshold: The same for items.
        weighting: `binary` gives inactive nodes the weight 0, `ratio` gives them the share of the
            threshold that they reach.
        sketch_dim: Columns of the sketch of S S^T.
        recent: Latest neighbours L that are kept per node.
        counting: Which tables a training row reads: `out_of_fold`, those without the rows of its
            own fold, or `history`, those of rows older than the log. Rows to be scored read tables
            of all rows.
        folds: Folds of `out_of_fold`.
        seed: Seed of folds, sketches and clusters.

    Example:
        >>> MacroConfig(user_nodes=20).item_nodes
        50
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_nodes: int = Field(default=50, ge=1, le=MOST_NODES)
    item_nodes: int = Field(default=50, ge=1, le=MOST_NODES)
    behaviors: tuple[str, ...] | None = None
    scores: Literal["merged", "count"] = "merged"
    beta: float = Field(default=0.8, allow_inf_nan=False)
    item_groups: str | None = None
    cluster_users_on: Literal["neighborhoods", "item_groups"] = "neighborhoods"
    activity: Literal["quantile", "value"] = "quantile"
    user_threshold: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    item_threshold: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    weighting: Literal["binary", "ratio"] = "binary"
    sketch_dim: int = Field(default=128, ge=1)
    recent: int = Field(default=20, ge=1)
    counting: Literal["out_of_fold", "history"] = "out_of_fold"
    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> MacroConfig:
        for name in ("user_threshold", "item_threshold"):
            if self.activity == "quantile" and getattr(self, name) >= 1:
                raise ValueError(
                    f"expected a quantile below 1 as {name}; received {getattr(self, name)}: lower "
                    "it, or set activity: value"
                )
        return self
