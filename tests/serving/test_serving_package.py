import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import tfmtl.serving

MODULES = [
    f"tfmtl.serving.{module.name}" for module in pkgutil.iter_modules(tfmtl.serving.__path__)
]

_WITHOUT = """
import sys
sys.modules[{module!r}] = None
try:
    import tfmtl.serving
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_public_names_are_sorted_and_present():
    assert tfmtl.serving.__all__ == sorted(tfmtl.serving.__all__)
    assert all(hasattr(tfmtl.serving, name) for name in tfmtl.serving.__all__)


@pytest.mark.parametrize("module", ["grpc", pytest.param("fastapi", marks=pytest.mark.slow)])
def test_missing_extra_names_the_remedy(module):
    output = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.startswith(f"tfmtl.serving needs {module}")
    assert output.endswith("pip install 'tfmtl[serving]'\n")


def test_package_itself_does_not_import_grpc():
    code = "import sys, tfmtl; print('grpc' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output == "False\n"
