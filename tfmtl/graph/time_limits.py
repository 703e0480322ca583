"""The moments up to which the rows of a batch may look."""

from __future__ import annotations

import numpy as np


def time_limits(
    times: np.ndarray, num_rows: int, granularity: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct time limits of a batch, and which one each row has.

    An edge of a whole-numbered time t lies strictly before a row's time exactly where it lies
    strictly before the next whole number that is not below it, so limits are integers.

    Args:
        times: Time of each row, integers or floats `[num_rows]`.
        num_rows: Rows of the batch.
        granularity: Length of the periods to whose start limits are floored; 0 for none.

    Returns:
        `int64 [M]`, ascending limits, and `int32 [num_rows]`, positions among them.

    Raises:
        ValueError: If there is not one finite number per row.

    Example:
        >>> limits, of_row = time_limits(np.array([7.5, 3.0, 7.9]), 3)
        >>> limits.tolist(), of_row.tolist()
        ([3, 8], [1, 0, 1])
        >>> time_limits(np.array([119, 60]), 2, granularity=60)[0].tolist()
        [60]
    """
    times = np.asarray(times)
    if times.shape != (num_rows,) or times.dtype.kind not in "iuf":
        raise ValueError(
            f"expected times as numbers of shape [{num_rows}], one per row; received "
            f"{times.dtype} {list(times.shape)}"
        )
    if not np.isfinite(times).all():
        raise ValueError(f"expected finite times; received {times[~np.isfinite(times)][0]}")
    if granularity and times.dtype.kind != "f" and float(granularity).is_integer():
        # In integers: times beyond 2^53 are not exact as floats.
        times = times // int(granularity) * int(granularity)
    elif granularity:
        times = np.floor(times / granularity) * granularity
    if times.dtype.kind == "f":
        times = np.ceil(times)
    limits, of_row = np.unique(times.astype(np.int64), return_inverse=True)
    return limits, of_row.astype(np.int32)
