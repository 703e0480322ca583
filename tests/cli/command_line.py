"""Runs `tfmtl` as the console script does, in this process or in one of its own."""

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from tfmtl.cli.main import main

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str


def tfmtl(*arguments):
    """Runs a command in this process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["tfmtl", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return Outcome(status, out.getvalue(), err.getvalue())


def done(*arguments):
    """Runs a command in this process that has to end well."""
    outcome = tfmtl(*arguments)
    assert outcome.status == 0, outcome.err
    return outcome


def refused(*arguments):
    """Runs a command that has to end with one line of error; returns the line."""
    outcome = tfmtl(*arguments)
    assert outcome.status == 1
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    return line


def process(*arguments, **options):
    """Starts a command in a process of its own."""
    command = [sys.executable, "-m", "tfmtl.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)
