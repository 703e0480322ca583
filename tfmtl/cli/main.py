"""Entry point of the `tfmtl` command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

import tfmtl
from tfmtl.cli import commands, demo

app = typer.Typer(
    name="tfmtl",
    help="Multi-task graph recommenders: from a behaviour log to a served ranker.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("fetch")(commands.fetch)
app.command("build-graph")(commands.build_graph)
app.command("train")(commands.train)
app.command("evaluate")(commands.evaluate)
app.command("compare")(commands.compare)
app.command("rebuild-macro-graph")(commands.rebuild_macro_graph)
app.command("export")(commands.export)
app.command("export-states")(commands.export_states)
app.command("serve")(commands.serve)
app.command("predict")(commands.predict)
app.command("demo")(demo.demo)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(tfmtl.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Multi-task graph recommenders: from a behaviour log to a served ranker."""


def main() -> None:
    """Runs the command; an expected error ends as one line on standard error and status 1.

    The variable `TFMTL_TRACEBACK` shows where it came from.
    """
    # TensorFlow's start-up notices would bury the progress bars and the tables.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        if os.environ.get("TFMTL_TRACEBACK"):
            raise
        line = Text.assemble(("error:", "bold red"), " ", " ".join(str(error).split()))
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
