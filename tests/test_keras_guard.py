import os
import subprocess
import sys

import pytest

REMEDY = "import tfmtl before tensorflow, or set TF_USE_LEGACY_KERAS=1 in the environment."


def run(code, **variables):
    """Runs code in a new interpreter without the variable, unless it is given."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **variables},
    )


def test_tfmtl_first_selects_keras_2():
    done = run("import tfmtl, tensorflow as tf; print(tf.keras.Model.__module__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf_keras.")


def test_tensorflow_first_is_fine_while_keras_is_undecided():
    done = run("import tensorflow as tf, tfmtl; print(tf.keras.Model.__module__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf_keras.")


def test_tensorflow_with_keras_2_first_is_fine():
    done = run(
        "import tensorflow as tf; tf.keras.Model; import tfmtl; print('imported')",
        TF_USE_LEGACY_KERAS="1",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "imported\n"


def test_tensorflow_with_keras_3_first_is_refused_in_one_line():
    done = run("import tensorflow as tf; tf.keras.Model; import tfmtl")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: tfmtl needs Keras 2 behind tf.keras, found Keras 3.")
    assert last.endswith(REMEDY)


@pytest.mark.parametrize("value", ["0", "false"])
def test_a_variable_that_asks_for_keras_3_is_refused(value):
    done = run("import tfmtl", TF_USE_LEGACY_KERAS=value)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: tfmtl needs Keras 2 behind tf.keras, found Keras 3 ")
    assert f"(TF_USE_LEGACY_KERAS={value})" in last
    assert last.endswith(REMEDY)


def test_importing_tfmtl_does_not_load_tensorflow():
    done = run("import sys, tfmtl; print('tensorflow' in sys.modules)")
    assert done.stdout == "False\n"
