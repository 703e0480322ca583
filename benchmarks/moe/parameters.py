"""Weights of models, and how many one more task adds.

    python -m benchmarks.moe.parameters --data-dir FOLDER

For the models of `benchmarks/experiments/grec_flows.yaml` and `grec.yaml`, as they are compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tfmtl.evaluation import Comparison
from tfmtl.models import MultiTaskModel, build_model
from tfmtl.schema import Task
from tfmtl.training import prepare_data

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def _count(model: MultiTaskModel) -> int:
    model.build_weights()
    return sum(
        int(np.prod(weight.shape))
        for weight in model.trainable_weights
        if not weight.name.startswith("embedding/")
    )


def main(
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path(
        "docs/results/moe/parameters.json"
    ),
) -> None:
    results: dict[str, Any] = {}
    for name in ("grec", "grec_flows"):
        comparison = Comparison.from_yaml(EXPERIMENTS / f"{name}.yaml")
        for label in comparison.models:
            experiment = comparison.experiment(label, seed=0)
            data = prepare_data(experiment, data_dir=data_dir)
            schema = data.loaded.log.schema
            # One task more than the log has, by a copy of its schema.
            more = schema.model_copy(update={"tasks": (*schema.tasks, Task(name="another"))})
            model = experiment.resolved()["model"]
            options = model["hyperparameters"]
            sentences = options.get("sentences")
            if sentences:
                # New in one word, as a task of a known flow is.
                known = next(iter(sentences.values()))
                more_options = {
                    **options,
                    "sentences": {**sentences, "another": ["another", *known[1:]]},
                }
            else:
                more_options = options
            before, after = (
                _count(
                    build_model(
                        experiment.model.name,
                        own,
                        data.encoder,
                        own_options,
                        exclude_inputs=experiment.model.exclude_inputs,
                        bottom=model["bottom"],
                        numeric_bins=experiment.model.numeric_bins,
                        macro_graph=data.macro_graph,
                    )
                )
                for own, own_options in ((schema, options), (more, more_options))
            )
            results.setdefault(name, {})[label] = {
                "tasks": len(schema.tasks),
                "weights_beside_embeddings": before,
                "weights_per_task": before / len(schema.tasks),
                "weights_of_another_task": after - before,
            }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(results))


if __name__ == "__main__":
    typer.run(main)
