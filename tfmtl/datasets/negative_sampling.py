"""Negative rows for logs that hold nothing but positives."""

from __future__ import annotations

import numpy as np

from tfmtl.datasets.dataset_error import DatasetError

_EXPONENT = 0.75
# A user to whom a share q of the draws is open loses a draw with probability (1 - q)^100.
_ROUNDS = 100


def sample_negatives(
    users: np.ndarray,
    training_items: np.ndarray,
    *,
    known_users: np.ndarray,
    known_items: np.ndarray,
    ratio: int = 4,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws items that the user of each positive row never met.

    Item i is drawn for a row of user u with probability

        p(i | u) ~ n_i^0.75 where (u, i) is not a known positive, else 0,

    n_i being the training positives of i. An item without any is therefore never a negative. Draws
    are independent, so one pair may come up twice. A draw that hits a known positive is repeated,
    at most 100 times, and then dropped: users who met nearly every item get fewer negatives than
    `ratio` a row, and users who met every item get none.

    Args:
        users: User of each positive row, of all parts of the log.
        training_items: Item of each positive row of the training part, and of no other.
        known_users: User of each known positive pair, of all parts; pairs may repeat.
        known_items: Item of each known positive pair.
        ratio: Draws per positive row, at least 1.
        seed: At least 0; equal arguments give equal draws.

    Returns:
        Position in `users` of the row that each negative belongs to, in rising order, and the item
        drawn for it.

    Raises:
        DatasetError: If `ratio` or `seed` is too small, or there are no training positives.

    References:
        The exponent is that of Mikolov et al., "Distributed Representations of Words and Phrases
        and their Compositionality", NeurIPS 2013, section 2.2.

    Example:
        >>> rows, items = sample_negatives(
        ...     np.array([7, 8]),
        ...     np.array([1, 2, 2]),
        ...     known_users=np.array([7, 8]),
        ...     known_items=np.array([1, 2]),
        ...     ratio=2,
        ... )
        >>> rows.tolist(), items.tolist()
        ([0, 0, 1, 1], [2, 2, 1, 1])
    """
    if ratio < 1 or seed < 0:
        raise DatasetError(
            f"expected ratio of at least 1 and seed of at least 0; received {ratio} and {seed}"
        )
    if len(training_items) == 0:
        raise DatasetError(
            "negatives are drawn by the popularity of training positives; received none: move "
            "the cut between the training part and the others to a later time"
        )
    _, user_codes = np.unique(np.concatenate([users, known_users]), return_inverse=True)
    items, item_codes = np.unique(
        np.concatenate([training_items, known_items]), return_inverse=True
    )
    chances = np.bincount(item_codes[: len(training_items)], minlength=len(items)) ** _EXPONENT
    chances /= chances.sum()
    known = user_codes[len(users) :] * len(items) + item_codes[len(training_items) :]
    # The extra key is above all others, so that every search ends at a key.
    known = np.append(np.unique(known), np.iinfo(np.int64).max)
    rows = np.repeat(np.arange(len(users)), ratio)
    drawn = np.empty(len(rows), np.int64)
    random = np.random.default_rng(seed)
    open_draws = np.arange(len(rows))
    for _ in range(_ROUNDS):
        drawn[open_draws] = random.choice(len(items), size=len(open_draws), p=chances)
        keys = user_codes[rows[open_draws]] * len(items) + drawn[open_draws]
        open_draws = open_draws[known[np.searchsorted(known, keys)] == keys]
        if len(open_draws) == 0:
            break
    kept = np.ones(len(rows), bool)
    kept[open_draws] = False
    return rows[kept], items[drawn[kept]]
