"""What macro graphs and MGOE cost as the log grows."""

# Before TensorFlow, which modules here import first: TF-GNN needs Keras 2 chosen by then.
import tfmtl  # noqa: F401
