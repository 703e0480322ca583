import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import tfmtl.pipelines.beam
from tests.docstring_rules import problems

MODULES = [
    f"tfmtl.pipelines.beam.{module.name}"
    for module in pkgutil.iter_modules(tfmtl.pipelines.beam.__path__)
    if module.name != "__main__"
]
# Its example builds a TensorFlow model.
SLOW = {"tfmtl.pipelines.beam.sampling_program"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MODULES],
)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", tfmtl.pipelines.beam.__all__)
def test_docstrings_agree_with_signatures(name):
    found = problems(name, getattr(tfmtl.pipelines.beam, name))
    # Functions that need files on disk are shown in docs/beam.md.
    assert not [problem for problem in found if not problem.endswith("has no Example")]


def test_missing_extra_names_the_remedy():
    code = (
        "import sys; sys.modules['apache_beam'] = None\n"
        "try:\n    import tfmtl.pipelines.beam\nexcept ImportError as error:\n    print(error)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.startswith("tfmtl.pipelines.beam needs apache_beam")
    assert output.endswith("pip install 'tfmtl[beam]'\n")
