import ast
import re
from pathlib import Path

import pytest

from tests.rooms import RANKS

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"apache_beam", "keras", "grpc", "tensorflow_serving", "tfx", "fastapi", "uvicorn"}
VAGUE = re.compile(r"(utils?|helpers?|managers?|misc|common)")
# Folders outside the package that are installed as rooms of it.
ADJACENT = ("serving", "pipelines")


def modules():
    """Every module of the package: its room and its file."""
    for path in sorted((ROOT / "tfmtl").rglob("*.py")):
        parts = path.relative_to(ROOT / "tfmtl").with_suffix("").parts
        yield (parts[0] if parts[0] != "__init__" else None), path
    for name in ADJACENT:
        for path in sorted((ROOT / name).rglob("*.py")):
            yield name, path


def imports(source, package):
    """Absolute dotted names a module imports, wherever in it; `package` is its own package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *(node.module.split(".") if node.module else [])])
            # `from tfmtl import data` imports tfmtl.data.
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def violations(room, source, package):
    """What a module of a room imports although it may not."""
    found = []
    for name, line in imports(source, package):
        top, _, rest = name.partition(".")
        if top in FORBIDDEN and room not in ADJACENT:
            found.append(f"line {line} imports {name}, which belongs to an extra or to Keras 3")
        other = rest.partition(".")[0]
        if top != "tfmtl" or other == room or other not in RANKS or room is None:
            continue
        if other in ("cli", "testing") or RANKS[other] >= RANKS[room]:
            found.append(f"line {line} imports {name}, which is not to the left of {room}")
    return found


@pytest.mark.parametrize(
    ("room", "path"),
    [pytest.param(room, path, id=str(path.relative_to(ROOT))) for room, path in modules()],
)
def test_imports_point_left(room, path):
    assert room is None or room in RANKS, f"give the room {room!r} a rank in tests/rooms.py"
    package = list(path.relative_to(ROOT).parent.parts)
    package = package if package[0] == "tfmtl" else ["tfmtl", *package]
    assert not violations(room, path.read_text(encoding="utf-8"), package)


def test_modules_are_named_for_what_they_hold():
    vague = [str(path) for _, path in modules() if VAGUE.fullmatch(path.stem.strip("_"))]
    assert not vague


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("data", "from tfmtl.graph.csr import CSR", ["line 1 imports tfmtl.graph.csr.CSR"]),
        ("data", "from tfmtl import schema, layers", ["line 1 imports tfmtl.layers"]),
        ("data", "from ..models import mmoe", ["line 1 imports tfmtl.models.mmoe"]),
        ("data", "from . import splits\nfrom .. import schema", []),
        ("metrics", "import tfmtl.objectives", ["line 1 imports tfmtl.objectives"]),
        ("models", "def f():\n    import tfmtl.cli", ["line 2 imports tfmtl.cli"]),
        ("cli", "from tfmtl.testing import run_layer_test", ["line 1 imports tfmtl.testing"]),
        ("cli", "import tfmtl.models, tfmtl.serving", []),
        ("layers", "import keras", ["line 1 imports keras"]),
        ("layers", "from keras.layers import Dense", ["line 1 imports keras.layers.Dense"]),
        ("layers", "import tf_keras as keras", []),
        ("export", "import grpc", ["line 1 imports grpc"]),
        ("serving", "import grpc", []),
    ],
)
def test_the_rule_itself(room, source, found):
    received = violations(room, source, ["tfmtl", room])
    assert len(received) == len(found)
    assert all(line.startswith(start) for line, start in zip(received, found, strict=True))
