"""The error of a model folder that cannot be served."""


class ModelLoadError(OSError):
    """A model folder is absent, holds no version, or holds one that cannot be read.

    Example:
        >>> issubclass(ModelLoadError, OSError)
        True
    """
