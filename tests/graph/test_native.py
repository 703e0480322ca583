import numpy as np
from numba.core import caching

from tfmtl.graph.native import native


def double(values):
    return values * 2


def test_compiles_without_a_writable_cache_folder(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    compiled = native(double)
    np.testing.assert_array_equal(compiled(np.array([1, 3])), [2, 6])
    assert len(compiled.signatures) == 1
