"""Pitfalls of test suites, which no test of a module would notice."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def unconditional_skips(source):
    """Lines at which a test, class or module is left out whatever the machine has."""
    lines = []
    for statement in ast.walk(ast.parse(source)):
        decorators = getattr(statement, "decorator_list", [])
        # The body of a lambda or of a conditional expression is an expression.
        body = getattr(statement, "body", [])
        body = body if isinstance(body, list) else []
        marks = [
            node.value
            for node in body
            if isinstance(node, ast.Assign)
            and any(getattr(target, "id", "") == "pytestmark" for target in node.targets)
        ]
        for node in (part for mark in [*decorators, *marks] for part in ast.walk(mark)):
            if isinstance(node, ast.Attribute) and node.attr in ("skip", "xfail"):
                lines.append(node.lineno)
        # A call to skip that stands directly in a test or module, under no condition.
        if isinstance(statement, ast.Module | ast.FunctionDef):
            calls = [node.value for node in body if isinstance(node, ast.Expr)]
            lines += [
                call.lineno
                for call in calls
                if isinstance(call, ast.Call)
                and ast.unparse(call.func) in ("pytest.skip", "pytest.xfail")
            ]
    return sorted(set(lines))


def test_no_test_is_left_out_unconditionally():
    """A suite whose end-to-end tests are all skipped passes whatever the code does."""
    paths = sorted(TESTS.rglob("test_*.py"))
    assert Path(__file__) in paths
    skips = {path.name: unconditional_skips(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: lines for name, lines in skips.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("@pytest.mark.skip(reason='slow')\ndef test(): pass", [1]),
        ("@pytest.mark.skip\nclass TestAll: pass", [1]),
        (
            "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.xfail)])\ndef t(): 0",
            [1],
        ),
        ("pytestmark = [pytest.mark.skip]", [1]),
        ("import pytest\npytest.skip('not yet', allow_module_level=True)", [2]),
        ("def test():\n    pytest.skip('not yet')", [2]),
        ("def test():\n    if not gpus:\n        pytest.skip('needs a GPU')", []),
        ("@pytest.mark.skipif(not gpus, reason='needs a GPU')\ndef test(): pass", []),
        ("def test():\n    log.skip(3)\n    pytest.importorskip('torch')", []),
    ],
)
def test_the_rule_itself(source, lines):
    assert unconditional_skips(source) == lines
