"""An array made block by block, in memory or on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt


class FilledArray:
    """Takes the rows of an array, all but the last dimension flattened, in order.

    On disk, rows go through a plain file rather than a memory map, whose pages would count as the
    process's memory until the system takes them back.

    Args:
        shape: Shape of the finished array.
        dtype: Its dtype.
        path: File to write, `.npy`; the array is made in memory when not given.

    Example:
        >>> array = FilledArray((3, 2), np.float32)
        >>> array.extend(np.ones((2, 2), np.float32))
        >>> array.extend(np.zeros((1, 2), np.float32))
        >>> array.finished().tolist()
        [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, path: Path | None = None):
        self._dtype, self._path = np.dtype(dtype), path
        self._filled = 0
        if path is None:
            self._array = np.empty(shape, dtype)
        else:
            self._file = path.open("wb")
            header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype))
            np.lib.format.write_array_header_1_0(self._file, header | {"shape": shape})

    def extend(self, rows: np.ndarray) -> None:
        """Takes the next rows.

        Args:
            rows: `[n, last dimension]`.
        """
        if self._path is None:
            flat = self._array.reshape(-1, self._array.shape[-1])
            flat[self._filled : self._filled + len(rows)] = rows
        else:
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self._filled += len(rows)

    def finished(self) -> np.ndarray:
        """The array; memory-mapped if it is on disk."""
        if self._path is None:
            return self._array
        self._file.close()
        return np.asanyarray(np.load(self._path, mmap_mode="r"))
