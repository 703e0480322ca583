import errno
import subprocess
import sys

import pytest

import tfmtl as package
from tests.cli.command_line import ROOT, process, tfmtl
from tfmtl.cli import main as entry_point

COMMANDS = [
    "fetch",
    "build-graph",
    "train",
    "evaluate",
    "compare",
    "export",
    "export-states",
    "rebuild-macro-graph",
    "serve",
    "predict",
    "demo",
]


@pytest.fixture
def failing(monkeypatch):
    """Makes every command fail with a given error."""

    def fail_with(error):
        def app():
            raise error

        monkeypatch.setattr(entry_point, "app", app)

    return fail_with


def test_help_names_every_command():
    outcome = tfmtl("--help")
    assert outcome.status == 0
    for name in COMMANDS:
        assert name in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    outcome = tfmtl(command, "--help")
    assert outcome.status == 0
    assert f"{command} [OPTIONS]" in outcome.out


def test_version():
    assert tfmtl("--version").out == f"{package.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_does_not_wait_for_tensorflow(arguments):
    code = (
        f"import sys\nsys.argv = ['tfmtl', *{arguments}]\n"
        "from tfmtl.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'tf_keras', 'keras', 'tensorflow_gnn', 'numba', 'pandas'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert outcome.stdout.splitlines()[-1] == "heavy: []"


def test_an_unknown_command_is_a_matter_of_usage():
    outcome = tfmtl("trian")
    assert outcome.status == 2
    assert "No such command 'trian'" in outcome.err


def test_a_missing_argument_is_a_matter_of_usage():
    outcome = tfmtl("train", "experiment.yaml")
    assert outcome.status == 2
    assert "--output" in outcome.err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("expected a\n  b"), "error: expected a b"),
        (ImportError("pip install 'tfmtl[serving]'"), "error: pip install 'tfmtl[serving]'"),
        (OSError(errno.ENOSPC, "No space"), f"error: [Errno {errno.ENOSPC}] No space"),
        (TypeError("needs a TrainingLog [/x]"), "error: needs a TrainingLog [/x]"),
        (RuntimeError("UNAVAILABLE: no server"), "error: UNAVAILABLE: no server"),
        # Longer than any terminal is wide, and still one line for whoever reads a log file.
        (ValueError("word " * 100), "error: " + "word " * 99 + "word"),
    ],
)
def test_an_error_is_one_line(error, line, failing):
    failing(error)
    outcome = tfmtl("train")
    assert outcome.status == 1
    assert outcome.err == f"{line}\n"


def test_a_traceback_can_be_asked_for(failing, monkeypatch):
    monkeypatch.setenv("TFMTL_TRACEBACK", "1")
    failing(ValueError("expected"))
    with pytest.raises(ValueError, match="expected"):
        tfmtl("train")


def test_a_defect_is_not_taken_for_an_expected_error(failing):
    failing(KeyError("x"))
    with pytest.raises(KeyError):
        tfmtl("train")


@pytest.mark.slow
def test_an_absent_file_in_a_process_of_its_own():
    with process("train", "none.yaml", "--output", "none", stderr=subprocess.PIPE) as command:
        out, err = command.communicate()
    assert command.returncode == 1
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "error: cannot read none.yaml: No such file or directory"
