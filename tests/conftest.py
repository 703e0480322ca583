import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Selects Keras 2, whichever test module imports TensorFlow first.
import tfmtl  # noqa: F401
