"""The error of graph bundles."""


class BundleError(ValueError):
    """A graph bundle on disk is missing, damaged, or not the one that was expected."""
