"""What embedding tables take, known before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfmtl.data.input_spec import InputSpec
from tfmtl.schema import ITEM_ID, USER_ID

_MEMORY_INFO = Path("/proc/meminfo")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_LARGEST_NAMED = 3


@dataclass(frozen=True)
class TableSize:
    """One vocabulary's share of the embedding tables.

    Args:
        vocabulary: Name of the vocabulary.
        rows: Its rows, over all tables of the model.
        num_bytes: Bytes of these rows, of what the optimiser keeps for them, and of what making
            them takes.

    Example:
        >>> TableSize("item_id", rows=1000, num_bytes=192_000).num_bytes
        192000
    """

    vocabulary: str
    rows: int
    num_bytes: int


def table_sizes(
    inputs: Sequence[InputSpec],
    *,
    embedding_dim: int,
    slots: int = 2,
    bytes_per_weight: int = 4,
    tables: int = 1,
    drawing: int = 2,
) -> list[TableSize]:
    """Rows and bytes of every vocabulary in the embedding tables of a model.

        bytes = rows * embedding_dim * bytes_per_weight * (tables * (1 + slots) + drawing)

    Args:
        inputs: What the encoder emits, without inputs that are excluded.
        embedding_dim: Width of the embeddings.
        slots: Numbers that the optimiser keeps per weight: 2 for Adam and LazyAdam, 1 for Adagrad
            and for SGD with momentum, 0 for plain SGD.
        bytes_per_weight: Bytes of one number: 4, as tables are float32 under mixed precision too.
        tables: Tables that the model has of these inputs: one per task for `SingleTask`, one more
            than tasks for `STEM`, 1 for the others. The macro models' own tables of users and
            items are `embedding_dim` times the number of tasks wide.
        drawing: Copies that a table needs while it is made of random numbers, at most: TensorFlow
            holds two beside it, and keeps their memory for later tensors of the same size. Adam's
            slots are such, those of LazyAdam are not. 0 for what stays in use.

    Returns:
        Sizes of the vocabularies, the largest first. The one row of padding that each table has
        beside them is not among them.

    Raises:
        ValueError: If a number is negative, or a width or number of tables not positive.

    Example:
        >>> item = InputSpec("item_id", "categorical", "item", 1000, 1, "item_id")
        >>> seen = InputSpec("seen", "list", "user", 1000, 8, "item_id")
        >>> table_sizes([item, seen], embedding_dim=16)
        [TableSize(vocabulary='item_id', rows=1000, num_bytes=320000)]
    """
    if min(embedding_dim, bytes_per_weight, tables) < 1 or min(slots, drawing) < 0:
        raise ValueError(
            "expected embedding_dim, bytes_per_weight and tables of at least 1, slots and drawing "
            f"of at least 0; received {embedding_dim}, {bytes_per_weight}, {tables}, {slots} and "
            f"{drawing}"
        )
    rows: dict[str, int] = {}
    for spec in inputs:
        if spec.kind != "numeric":
            vocabulary = spec.vocabulary or spec.name
            rows[vocabulary] = max(spec.vocabulary_size, rows.get(vocabulary, 0))
    row_bytes = embedding_dim * bytes_per_weight * (tables * (1 + slots) + drawing)
    sizes = [
        TableSize(vocabulary, tables * count, count * row_bytes)
        for vocabulary, count in rows.items()
    ]
    return sorted(sizes, key=lambda size: -size.num_bytes)


def check_memory(sizes: Sequence[TableSize], available: int | None = None) -> None:
    """Refuses tables that do not fit into memory, before a model is built of them.

    Args:
        sizes: What `table_sizes` says of the model's inputs.
        available: Bytes that are available; when not given, what the system says it can give
            without swapping, or less where the process has a limit (cgroup). Nothing is refused
            where neither is known. For tables on an accelerator give the memory of the device.

    Raises:
        MemoryError: If the tables take more, naming the largest vocabularies and what makes
            them smaller.

    Example:
        >>> item = InputSpec("item_id", "categorical", "item", 10**12, 1, "item_id")
        >>> check_memory(table_sizes([item], embedding_dim=16), available=2**34)
        Traceback (most recent call last):
        ...
        MemoryError: embedding tables and their optimiser slots take 298,023 GiB of 16.0 GiB ...
    """
    if available is None:
        available = _available_memory()
    total = sum(size.num_bytes for size in sizes)
    if available is None or total <= available:
        return
    largest = sizes[:_LARGEST_NAMED]
    named = ", ".join(
        f"{size.vocabulary!r} ({size.rows:,} rows, {_readable(size.num_bytes)})" for size in largest
    )
    remedies = "lower embedding_dim"
    if any(size.vocabulary not in (USER_ID, ITEM_ID) for size in largest):
        remedies += ", set min_count or hash_buckets on these features"
    if any(size.vocabulary in (USER_ID, ITEM_ID) for size in largest):
        remedies += ", leave ids out of the inputs (exclude_inputs)"
    raise MemoryError(
        f"embedding tables and their optimiser slots take {_readable(total)} of "
        f"{_readable(available)} that are available; the largest are {named}: {remedies}, take an "
        "optimiser with fewer slots, or a machine with more memory"
    )


def _available_memory() -> int | None:
    """Bytes that this process may still use, or `None` where the system does not say."""
    known = [number for number in (_free_memory(), *_free_in_cgroups()) if number is not None]
    return min(known) if known else None


def _free_memory() -> int | None:
    for line in _lines(_MEMORY_INFO):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _free_in_cgroups() -> Iterator[int]:
    """What the process's groups leave of their limits, in both versions of Linux's cgroups."""
    for line in _lines(_OWN_CGROUPS):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage = _CGROUP_ROOT, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = (
                _CGROUP_ROOT / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        else:
            continue
        own = root / path.strip("/")
        # A limit of any group above holds too. Inside a container the path may not be there, and
        # the root is the container's own group.
        for folder in (own, *own.parents):
            if root != folder and root not in folder.parents:
                break
            allowed, used = _lines(folder / limit), _lines(folder / usage)
            if allowed and used and allowed[0] != "max":
                cached = sum(
                    int(entry.split()[1])
                    for entry in _lines(folder / "memory.stat")
                    if entry.split()[0] == "inactive_file"
                )
                # Cached files count as used, but are given up for the asking.
                yield max(int(allowed[0]) - int(used[0]) + cached, 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _readable(num_bytes: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            number = num_bytes / size
            return f"{number:,.0f} {unit}" if number >= 100 else f"{number:.1f} {unit}"
    return f"{num_bytes} bytes"
