"""Asks SavedModels in a process that knows nothing but TensorFlow.

Reads `requests.npz` of the folder given as argument, whose keys are `version|signature|input`, and
writes `answers.npz` with keys `version|signature|split|task`, and `ops.json`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

# Lengths of the parts that eight rows are asked in.
SPLITS = {"1x8": [8], "8x1": [1] * 8, "3+5": [3, 5]}
FOREIGN = {"tfmtl", "tensorflow_gnn", "tensorflow_recommenders"}


def answer(serve, inputs, lengths):
    specs = serve.structured_input_signature[1]
    parts, start = [], 0
    for length in lengths:
        rows = {name: values[start : start + length] for name, values in inputs.items()}
        parts.append(
            serve(**{k: tf.constant(v.tolist(), specs[k].dtype, v.shape) for k, v in rows.items()})
        )
        start += length
    return {task: np.concatenate([part[task].numpy() for part in parts]) for task in parts[0]}


def operations(version):
    """Names of all operations of a SavedModel, those of its functions included."""
    saved = SavedModel.FromString((Path(version) / "saved_model.pb").read_bytes())
    (graph,) = (meta.graph_def for meta in saved.meta_graphs)
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(n for function in graph.library.function for n in function.node_def)]
    return sorted({node.op for node in nodes} - functions)


def main(folder):
    requests = np.load(folder / "requests.npz", allow_pickle=True)
    asked = {}
    for key in requests.files:
        version, signature, name = key.split("|")
        asked.setdefault((version, signature), {})[name] = requests[key]
    answers, report = {}, {"signatures": {}, "operations": {}, "shapes": {}}
    loaded = {}
    for (version, signature), inputs in asked.items():
        model = loaded.setdefault(version, tf.saved_model.load(version))
        serve = model.signatures[signature]
        for split, lengths in SPLITS.items():
            for task, values in answer(serve, inputs, lengths).items():
                answers[f"{version}|{signature}|{split}|{task}"] = values
        report["shapes"][f"{version}|{signature}"] = {
            name: tensor.shape.as_list() for name, tensor in serve.structured_outputs.items()
        }
    for version, model in loaded.items():
        report["signatures"][version] = sorted(model.signatures)
        names = operations(version)
        report["operations"][version] = names
        report.setdefault("unregistered", []).extend(
            name for name in names if op_def_registry.get(name) is None
        )
    report["foreign"] = sorted(FOREIGN & set(sys.modules))
    np.savez(folder / "answers.npz", **answers)
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
