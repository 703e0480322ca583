import subprocess
import sys

import pytest

import tfmtl.data


def test_logs_are_read_without_tensorflow():
    code = "import sys, tfmtl.data; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_pipeline_loads_on_first_use():
    from tfmtl.data.pipeline import training_dataset

    assert tfmtl.data.training_dataset is training_dataset
    with pytest.raises(AttributeError, match=r"'tfmtl\.data' has no attribute 'shuffle'"):
        _ = tfmtl.data.shuffle
