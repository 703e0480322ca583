import subprocess
import sys
import textwrap

import pytest

from tfmtl.training import keep_freed_memory

PROGRAM = """
import resource

import numpy as np

from tfmtl.training import keep_freed_memory

assert {keep} is False or keep_freed_memory()
for _ in range(3):
    np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep: bool) -> int:
    program = textwrap.dedent(PROGRAM.format(keep=keep))
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return int(process.stdout)


@pytest.mark.slow
def test_arrays_reuse_the_pages_of_freed_ones():
    # 50 arrays of 32 MiB; a page is 4 KiB, or 2 MiB where the system makes large ones.
    without, kept = page_faults(keep=False), page_faults(keep=True)
    assert without > 50
    assert kept < without / 10


def test_a_library_without_the_setting_is_told_apart(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
