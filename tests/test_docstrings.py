"""Documentation is run: docstring examples, Args sections, and blocks of the Markdown files."""

import doctest
import importlib
from pathlib import Path

import pytest
import typer

from tests.doc_blocks import ROOT, blocks, commands, documents, unknown_words
from tests.docstring_rules import problems
from tests.rooms import public_names, public_rooms, room

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "tfmtl").rglob("*.py")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_and_leave_nothing_behind(name, tmp_path, monkeypatch):
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", public_rooms())
def test_docstrings_agree_with_signatures(name):
    module = room(name)
    found = [
        problem
        for public in public_names(module)
        for problem in problems(f"{name}.{public}", getattr(module, public))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_python_blocks_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The blocks of a document build on one another, as they do for its reader.
    names = {"__name__": "__main__"}
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.language == "python":
            # Empty lines in front keep the document's line numbers in a traceback.
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(path), "exec"), names)


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_shell_blocks_name_existing_commands(path):
    calls = list(commands(path.read_text(encoding="utf-8")))
    if calls:
        command = typer.main.get_command(importlib.import_module("tfmtl.cli.main").app)
        found = {" ".join(words): unknown_words(words, command) for words in calls}
        assert not {call: unknown for call, unknown in found.items() if unknown}


def good(rows: int, *, scale: float = 0.5, name: str | None = None, **kwargs: int) -> None:
    """Does nothing with its arguments.

    Args:
        rows: Number of rows.
        scale: A factor, of which more is said
            on a second line. Defaults to 0.5.
        name: A name. Defaults to `None`.

    Returns:
        Nothing: this line is no argument.

    Example:
        >>> good(3)
    """


class Good:
    """Holds an axis.

    Args:
        axis: An axis. Defaults to `mean`.

    Example:
        >>> Good().axis
        'mean'
    """

    def __init__(self, axis: str = "mean") -> None:
        self.axis = axis

    def moved(self, by: int) -> int:
        """Moves it.

        Args:
            by: How far.
        """
        return by


class Child(Good):
    """Says nothing of the constructor it inherits.

    Example:
        >>> Child().axis
        'mean'
    """


@pytest.mark.parametrize("value", [good, Good, Child, KeyError, "a constant"])
def test_rules_accept(value):
    assert problems("x", value) == []


@pytest.mark.parametrize(
    ("value", "old", "new", "problem"),
    [
        (good, "arguments.\n", "arguments\n", "the summary is not one line"),
        (good, "arguments.\n", "arguments.\nAt all.\n", "the summary is not one line"),
        (good, "rows: N", "columns: N", "Args lacks ['rows']"),
        (good, "rows: N", "columns: N", "Args has ['columns'], which the signature does not"),
        (good, "to 0.5", "to 0.25", "scale is said to default to 0.25; it is 0.5"),
        (good, "Defaults to 0.5", "Default: 5", "scale is said to default to 5; it is 0.5"),
        (good, "to `None`", "to `x`", "name is said to default to x; it is None"),
        (good, ">>> good(3)", "good(3)", "has no Example"),
        (Good, "`mean`", "`sum`", "axis is said to default to sum; it is 'mean'"),
        (Good, "Args:", "Arguments:", "Args lacks ['axis']"),
        (Good.moved, "by: How", "to: How", "Args lacks ['by', 'self']"),
    ],
)
def test_rules_refuse(value, old, new, problem, monkeypatch):
    assert old in value.__doc__
    monkeypatch.setattr(value, "__doc__", value.__doc__.replace(old, new))
    assert any(problem in found for found in problems("x", value))


def test_rules_refuse_a_method_that_says_something_else(monkeypatch):
    monkeypatch.setattr(Good.moved, "__doc__", Good.moved.__doc__.replace("by: How", "to: How"))
    assert problems("Good", Good) == [
        "Good.moved: Args lacks ['by']",
        "Good.moved: Args has ['to'], which the signature does not",
    ]
    monkeypatch.setattr(Good.moved, "__doc__", None)
    assert problems("Good", Good) == ["Good.moved has no docstring"]


DOCUMENT = """
Text.

```python
x = 1
```

1. A step

   ```bash
   $ KEY=1 .venv/bin/tfmtl train a.yaml \\
       --epochs 3 | tee log && tfmtl evaluate --bad
   make test
   ```
"""


def test_blocks_are_found_with_their_lines():
    assert [(block.language, block.line) for block in blocks(DOCUMENT)] == [
        ("python", 5),
        ("bash", 11),
    ]
    assert blocks(DOCUMENT)[0].text == "x = 1\n"


def test_calls_of_the_program_are_found_and_held_against_the_command_line():
    app = typer.Typer()

    @app.command()
    def train(file: Path, epochs: int = 1) -> None: ...

    @app.command()
    def evaluate(fast: bool = False) -> None: ...

    command = typer.main.get_command(app)
    calls = list(commands(DOCUMENT))
    assert calls == [["train", "a.yaml", "--epochs", "3"], ["evaluate", "--bad"]]
    assert [unknown_words(words, command) for words in calls] == [
        [],
        ["evaluate has no option --bad"],
    ]
    assert unknown_words(["trian", "--epochs"], command) == ["no sub-command 'trian'"]
    assert unknown_words(["evaluate", "--no-fast", "--help"], command) == []
