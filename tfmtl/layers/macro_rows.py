"""What a macro graph tells of the rows of a batch."""

from __future__ import annotations

from typing import Any, NamedTuple


class MacroRows(NamedTuple):
    """Edges of a batch's users and items to macro nodes, and their recent neighbours.

    Shapes: B rows, T tasks, G_U and G_I macro user and item nodes, L recent neighbours. Column 0
    of macro nodes is padding, as is id 0 everywhere.

    Args:
        user_items: log(1 + N_U1) `float [B, G_I + 1]`, strength of the user's items.
        user_users: log(1 + N_U2) `float [B, G_U + 1]`, of the users of the user's items.
        item_users: log(1 + N_I1) `float [B, G_U + 1]`, of the item's users.
        item_items: log(1 + N_I2) `float [B, G_I + 1]`, of the items of the item's users.
        user_preferences: log(1 + P_U) `float [B, T, G_I + 1]`, the user's items by task.
        item_preferences: log(1 + P_I) `float [B, T, G_U + 1]`, the item's users by task.
        recent_items: `int32 [B, L]`, last items of the user; 0 is none.
        recent_item_behaviors: `int32 [B, L]`, bits of the tasks that the user performed on each.
        recent_item_scores: log(1 + s) `float [B, L]`, merged score of each.
        recent_users: `int32 [B, L]`, last users of the item; 0 is none.
        recent_user_behaviors: `int32 [B, L]`, bits of the tasks that each performed on the item.
        recent_user_scores: log(1 + s) `float [B, L]`, merged score of each.
        user_group: `int32 [B]`, macro node of the user; 0 is none.
        item_group: `int32 [B]`, macro node of the item; 0 is none.

    Example:
        >>> import numpy as np
        >>> items, users, recent = np.zeros([2, 5]), np.zeros([2, 4]), np.zeros([2, 3], np.int32)
        >>> rows = MacroRows(
        ...     items, users, users, items, items[:, None], users[:, None],
        ...     recent, recent, np.zeros([2, 3]), recent, recent, np.zeros([2, 3]),
        ...     user_group=np.array([1, 3]), item_group=np.array([4, 0]))
        >>> rows.user_preferences.shape, rows.item_group.tolist()
        ((2, 1, 5), [4, 0])
    """

    user_items: Any
    user_users: Any
    item_users: Any
    item_items: Any
    user_preferences: Any
    item_preferences: Any
    recent_items: Any
    recent_item_behaviors: Any
    recent_item_scores: Any
    recent_users: Any
    recent_user_behaviors: Any
    recent_user_scores: Any
    user_group: Any
    item_group: Any
