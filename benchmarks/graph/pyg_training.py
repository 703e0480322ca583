"""The model of `benchmarks.graph.training` as PyG users write it, for the rate beside ours.

    python benchmarks/graph/pyg_training.py ARRAYS.npz SECONDS

runs in a Python with torch, torch_geometric and torch_sparse (or pyg-lib), which need not have
TensorFlow. ARRAYS holds the rows and edges that `benchmarks.graph.training` trains on. Prints one
JSON object. PyG's loader walks all edge sets together, where ours keeps the channels apart.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch_geometric.data import HeteroData
from torch_geometric.loader import LinkNeighborLoader
from torch_geometric.nn import TransformerConv

BATCH, FAN_OUTS, DIM, EXPERT_UNITS, GATE_UNITS, TASKS = 1024, [10, 10], 64, (32, 32), (16, 16), 2
WARM_UP = 3
CHANNELS = {
    "interaction": [("item", "item_user", "user"), ("user", "user_item", "item")],
    "user_similarity": [("user", "user_user", "user")],
    "item_similarity": [("item", "item_item", "item")],
}


def mlp(width: int, units: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in units:
        layers += [nn.Linear(width, size), nn.LeakyReLU(0.2)]
        width = size
    return nn.Sequential(*layers)


class Model(nn.Module):
    """Three channels of attention and an LSTM gate, product experts, MMoE gates, two tasks."""

    def __init__(self, sizes: dict[str, int]):
        super().__init__()
        self.embeddings = nn.ModuleDict({name: nn.Embedding(n, DIM) for name, n in sizes.items()})
        self.projections = nn.ModuleDict({name: nn.Linear(DIM, DIM) for name in sizes})
        self.convolutions = nn.ModuleDict(
            {name: TransformerConv(DIM, DIM, root_weight=False, bias=False) for name in CHANNELS}
        )
        self.gates = nn.ModuleDict({name: nn.LSTMCell(DIM, DIM) for name in CHANNELS})
        self.experts = nn.ModuleList(mlp(2 * DIM, EXPERT_UNITS) for _ in range(4))
        self.routers = nn.ModuleList(
            nn.Sequential(mlp(2 * DIM, GATE_UNITS), nn.Linear(GATE_UNITS[-1], 4))
            for _ in range(TASKS)
        )
        self.towers = nn.ModuleList(nn.Linear(EXPERT_UNITS[-1] + DIM, 1) for _ in range(TASKS))

    def forward(self, batch: HeteroData) -> torch.Tensor:
        """Logits `[B, tasks]`."""
        initial = {
            name: self.projections[name](self.embeddings[name](batch[name].n_id))
            for name in self.embeddings
        }
        users, items = batch["user", "rows", "item"].edge_label_index
        read = {}
        for channel, edge_types in CHANNELS.items():
            current = {kind[2]: initial[kind[2]] for kind in edge_types}
            cells = dict(current)
            for _ in FAN_OUTS:
                following = {}
                for kind in edge_types:
                    message = nn.functional.leaky_relu(
                        self.convolutions[channel](
                            (current[kind[0]], current[kind[2]]), batch[kind].edge_index
                        ),
                        0.2,
                    )
                    following[kind[2]] = self.gates[channel](
                        message, (current[kind[2]], cells[kind[2]])
                    )
                current = {name: state for name, (state, _) in following.items()}
                cells = {name: cell for name, (_, cell) in following.items()}
            for name, state in current.items():
                read[channel, name] = state[users if name == "user" else items]
        row = torch.cat(
            [
                self.embeddings[name](batch[name].n_id[rows])
                for name, rows in (("user", users), ("item", items))
            ],
            dim=1,
        )
        pairs = [
            read[one, "user"] * read[other, "item"]
            for one in ("interaction", "user_similarity")
            for other in ("interaction", "item_similarity")
        ]
        experts = torch.stack(
            [torch.cat([f(row), z], 1) for f, z in zip(self.experts, pairs, strict=True)], 1
        )
        logits = []
        for router, tower in zip(self.routers, self.towers, strict=True):
            weights = torch.softmax(router(row), 1)
            logits.append(tower(torch.einsum("bn,bnd->bd", weights, experts)))
        return torch.cat(logits, 1)


def main(path: str, seconds: float) -> None:
    arrays = np.load(path)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = (int(arrays[f"num_{s}s"]) for s in DATA_SETS)
    for edge_types in CHANNELS.values():
        for kind in edge_types:
            data[kind].edge_index = torch.from_numpy(arrays[kind[1]].astype(np.int64))
    rows = torch.from_numpy(arrays["rows"].astype(np.int64))
    data["user", "rows", "item"].edge_index = torch.empty((2, 0), dtype=torch.int64)
    loader = LinkNeighborLoader(
        data,
        num_neighbors={kind: FAN_OUTS for kind in data.edge_types},
        edge_label_index=(("user", "rows", "item"), rows),
        edge_label=torch.from_numpy(arrays["labels"]),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
    )
    model = Model({name: data[name].num_nodes for name in DATA_SETS})
    optimizer = torch.optim.Adam(model.parameters())
    steps, sampling, start = 0, 0.0, 0.0
    iterator = iter(loader)
    while True:
        if steps == WARM_UP:
            start, sampling = time.perf_counter(), 0.0
        asked = time.perf_counter()
        batch = next(iterator, None)
        sampling += time.perf_counter() - asked
        if batch is None or (steps > WARM_UP and time.perf_counter() - start > seconds):
            break
        label = batch["user", "rows", "item"].edge_label
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    spent = time.perf_counter() - start
    print(
        json.dumps(
            {
                "pyg_samples_per_s": (steps - WARM_UP) * BATCH / spent,
                "pyg_sampling_share": sampling / spent,
                "pyg_steps": steps - WARM_UP,
                "torch": torch.__version__,
            }
        )
    )


DATA_SETS = ("user", "item")

if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
