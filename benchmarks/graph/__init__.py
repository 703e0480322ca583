"""Speed, memory and exactness of the graph room."""

# Before TensorFlow, which modules here import first: TF-GNN needs Keras 2 chosen by then.
import tfmtl  # noqa: F401
