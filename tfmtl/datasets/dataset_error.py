"""The one error of this room."""


class DatasetError(ValueError):
    """A dataset cannot be fetched, found, read or split; the message says what to do.

    Example:
        >>> raise DatasetError("no folder 'x'; run `tfmtl fetch x`")
        Traceback (most recent call last):
        tfmtl.datasets.dataset_error.DatasetError: no folder 'x'; run `tfmtl fetch x`
    """
