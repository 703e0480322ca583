"""Embeds the encoded features of rows or of graph nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.data.input_spec import InputSpec

# Bounds of the bins of numeric features, in standard deviations.
_LOWEST, _HIGHEST = -3.0, 3.0


class PackedFeatures(NamedTuple):
    """Features of one side as three arrays, ids already offset into the fused table.

    Attributes:
        ids: `int32 [B, F]`, one column per categorical feature.
        lists: `int32 [B, P]`, the padded lists side by side; 0 is padding.
        numeric: `float32 [B, W]`, the numeric features side by side.
    """

    ids: Any
    lists: Any
    numeric: Any


@keras.utils.register_keras_serializable(package="tfmtl")
class FeatureEmbedding(keras.layers.Layer):
    """One embedding table for all categorical features, looked up once per side.

    Every vocabulary owns a range of rows of one table, so a batch costs one gather and one sparse
    gradient however many features it has. Categorical features become `dim` numbers each, lists
    the mean of their non-padding embeddings (zeros when empty), numeric features stay as they are.
    Row 0 of the table is padding; id 0 of every vocabulary is its trained row of missing ids and,
    unless the feature has buckets, of those out of vocabulary.

    Under `tf.distribute.ParameterServerStrategy` with a `variable_partitioner` the table is split
    by rows over the parameter servers, and a look-up asks each for the rows that it has.

    A numeric feature with `bins` T in its spec also becomes T numbers, the share of each bin that
    lies below its value v, with T bins of equal width between -3 and 3:

        e_t = clip((v - b_{t-1}) / (b_t - b_{t-1}), 0, 1),    b_t = -3 + 6 t / T

    so that the first dense layer can bend at every bound. Features come standardised from the
    encoder; beyond the bounds the value itself still tells.

    Shapes: B batch, F categorical features, W numeric width, d `dim`.

    Args:
        inputs: What the encoder emits, as `InputSpec`s or their dicts; without any there is no
            table.
        dim: Embedding width d.
        l2: Penalty on the squared embeddings of the batch, averaged over its rows.
        **kwargs: Passed to `keras.layers.Layer`.

    Input: dict of encoded features. Output: `float [B, width(side)]`.

    Raises:
        ValueError: If `dim` is not positive or a batch lacks a feature.

    References:
        Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning (NeurIPS
        2022), equation 1.

    Deviations:
        The paper's bins are quantiles or come from a tree, and the value itself is not kept. Bins
        of equal width resolve the tails, where the rates of active users and of popular items lie.

    Example:
        >>> import tensorflow as tf
        >>> from tfmtl.data.input_spec import InputSpec
        >>> age = InputSpec("age", "categorical", side="user", vocabulary_size=8, width=1)
        >>> embedding = FeatureEmbedding([age], dim=4)
        >>> embedding({"age": tf.constant([1, 7])}, side="user").shape
        TensorShape([2, 4])
    """

    def __init__(
        self,
        inputs: Sequence[InputSpec | Mapping[str, Any]],
        *,
        dim: int = 16,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.inputs = tuple(
            spec if isinstance(spec, InputSpec) else InputSpec(**spec) for spec in inputs
        )
        if dim < 1:
            raise ValueError(f"expected a positive dim; received {dim}")
        self.dim = int(dim)
        self.l2 = float(l2)
        self._offsets: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        rows = 1
        for spec in self.inputs:
            if spec.kind == "numeric":
                continue
            table = spec.vocabulary or spec.name
            if table not in self._offsets:
                self._offsets[table] = rows
                self._sizes[table] = self._vocabulary_size(table)
                rows += self._sizes[table]
            self._offsets[spec.name] = self._offsets[table]
        self.num_rows = rows

    def _vocabulary_size(self, table: str) -> int:
        return max(
            spec.vocabulary_size for spec in self.inputs if table in (spec.name, spec.vocabulary)
        )

    def build(self, input_shape: Any) -> None:
        """Creates the fused table `[rows, dim]`."""
        del input_shape
        if self.inputs:
            self._table = self.add_weight(
                name="table",
                shape=(self.num_rows, self.dim),
                initializer=keras.initializers.RandomNormal(stddev=self.dim**-0.5 / 2),
            )
        super().build(None)

    @property
    def table(self) -> Any:
        """The fused table `[rows, dim]`, a sharded variable where a strategy has split it."""
        return self._table

    @property
    def rows_of_vocabularies(self) -> dict[str, range]:
        """Vocabulary to its rows of the table, in the order of its encoded ids."""
        return {
            name: range(self._offsets[name], self._offsets[name] + size)
            for name, size in self._sizes.items()
        }

    def specs(self, side: str) -> tuple[InputSpec, ...]:
        """The inputs of one side, in declaration order."""
        return tuple(spec for spec in self.inputs if spec.side == side)

    def width(self, side: str) -> int:
        """Columns that `call` returns for `side`."""
        return sum(
            spec.width * (1 + spec.bins) if spec.kind == "numeric" else self.dim
            for spec in self.specs(side)
        )

    def pack(self, features: Mapping[str, Any], side: str) -> PackedFeatures:
        """Packs encoded features of one side, NumPy arrays or tensors, into three tensors."""
        specs = self.specs(side)
        absent = [spec.name for spec in specs if spec.name not in features]
        if absent:
            raise _absent(absent, features)
        by_kind = {
            kind: [spec for spec in specs if spec.kind == kind]
            for kind in ("categorical", "list", "numeric")
        }
        leading = tf.shape(features[specs[0].name])[:1] if specs else tf.zeros([1], tf.int32)

        def joined(parts: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
            if parts:
                return tf.concat(parts, axis=-1)
            return tf.zeros(tf.concat([leading, [0]], axis=0), dtype)

        ids = [
            tf.cast(features[spec.name], tf.int32)[..., tf.newaxis] + self._offsets[spec.name]
            for spec in by_kind["categorical"]
        ]
        lists = []
        for spec in by_kind["list"]:
            values = tf.cast(features[spec.name], tf.int32)
            lists.append(tf.where(values > 0, values + self._offsets[spec.name], 0))
        numeric = [
            tf.reshape(
                tf.cast(features[spec.name], tf.float32), tf.concat([leading, [spec.width]], axis=0)
            )
            for spec in by_kind["numeric"]
        ]
        return PackedFeatures(
            joined(ids, tf.int32), joined(lists, tf.int32), joined(numeric, tf.float32)
        )

    def embed(self, packed: PackedFeatures, side: str) -> tf.Tensor:
        """Embeds packed features of one side: `float [B, width(side)]`."""
        return self._assemble(self._look_up(packed), packed, side)

    def call(
        self,
        features: Mapping[str, tf.Tensor],
        side: str = "context",
        names: Sequence[str] | None = None,
    ) -> Any:
        """Embeds the features of one side of a batch, or those called `names` one by one.

        Args:
            features: Encoded features.
            side: Side to embed, for `float [B, width(side)]`.
            names: Inputs to embed without joining them, whatever their sides: name to `[B, dim]`
                for a categorical one, `[B, width, dim]` for a list (whose padding has a row like
                any other), `[B, width]` for a numeric one, and `[B, width * bins]` under
                `<name>/bins` where it has bins.
        """
        if names is None:
            packed = self.pack(features, side)
            rows = self._look_up(packed)
            self._penalise(rows)
            return self._assemble(rows, packed, side)
        return self._embed_each(features, names)

    def _penalise(self, rows: tf.Tensor) -> None:
        if self.l2:
            squares = tf.reduce_sum(tf.square(tf.cast(rows, tf.float32)), axis=[1, 2])
            self.add_loss(self.l2 * tf.reduce_mean(squares))

    def _embed_each(
        self, features: Mapping[str, tf.Tensor], names: Sequence[str]
    ) -> dict[str, tf.Tensor]:
        own = {spec.name: spec for spec in self.inputs}
        specs = [own[name] for name in names]
        absent = [spec.name for spec in specs if spec.name not in features]
        if absent:
            raise _absent(absent, features)
        looked_up = [spec for spec in specs if spec.kind != "numeric"]
        embedded: dict[str, tf.Tensor] = {}
        if looked_up:
            ids = []
            for spec in looked_up:
                column = tf.cast(features[spec.name], tf.int32)
                if spec.kind == "list":
                    ids.append(tf.where(column > 0, column + self._offsets[spec.name], 0))
                else:
                    ids.append(column[:, tf.newaxis] + self._offsets[spec.name])
            # One gather, and one sparse gradient, for all of them.
            rows = self._rows(tf.concat(ids, axis=1))
            self._penalise(rows)
            widths = [spec.width if spec.kind == "list" else 1 for spec in looked_up]
            parts = tf.split(tf.cast(rows, self.compute_dtype), widths, axis=1)
            for spec, part in zip(looked_up, parts, strict=True):
                embedded[spec.name] = part if spec.kind == "list" else part[:, 0]
        for spec in specs:
            if spec.kind == "numeric":
                numbers = tf.cast(features[spec.name], tf.float32)
                numbers = tf.reshape(numbers, [tf.shape(numbers)[0], spec.width])
                embedded[spec.name] = tf.cast(numbers, self.compute_dtype)
                if spec.bins:
                    (embedded[f"{spec.name}/bins"],) = self._bin_shares(numbers, [spec])
        return embedded

    def _look_up(self, packed: PackedFeatures) -> tf.Tensor:
        rows = self._rows(tf.concat([packed.ids, packed.lists], axis=-1))
        return tf.cast(rows, self.compute_dtype)

    def _rows(self, places: tf.Tensor) -> tf.Tensor:
        if isinstance(self._table, tf.__internal__.distribute.ShardedVariable):
            return tf.nn.embedding_lookup(self._table, places)
        return tf.gather(self._table, places)

    def _assemble(self, rows: tf.Tensor, packed: PackedFeatures, side: str) -> tf.Tensor:
        specs = self.specs(side)
        num_ids = sum(spec.kind == "categorical" for spec in specs)
        # A size of -1 cannot be inferred for a side without categorical features.
        parts = [tf.reshape(rows[:, :num_ids], [tf.shape(rows)[0], num_ids * self.dim])]
        start = 0
        for spec in specs:
            if spec.kind != "list":
                continue
            values = rows[:, num_ids + start : num_ids + start + spec.width]
            present = packed.lists[:, start : start + spec.width] > 0
            present = tf.cast(present, values.dtype)[..., tf.newaxis]
            total = tf.reduce_sum(values * present, axis=1)
            parts.append(total / tf.maximum(tf.reduce_sum(present, axis=1), 1))
            start += spec.width
        parts.append(tf.cast(packed.numeric, self.compute_dtype))
        parts += self._bin_shares(packed.numeric, specs)
        return tf.ensure_shape(tf.concat(parts, axis=-1), [None, self.width(side)])

    def _bin_shares(self, numeric: tf.Tensor, specs: Sequence[InputSpec]) -> list[tf.Tensor]:
        """Shares `[B, columns * T]` of each bin below the values, per number of bins T."""
        bins_of_columns = np.repeat(
            [spec.bins for spec in specs if spec.kind == "numeric"],
            [spec.width for spec in specs if spec.kind == "numeric"],
        )
        parts = []
        for bins in np.unique(bins_of_columns[bins_of_columns > 0]):
            (columns,) = np.nonzero(bins_of_columns == bins)
            values = numeric
            if len(columns) < len(bins_of_columns):
                values = tf.gather(numeric, columns, axis=1)
            width = (_HIGHEST - _LOWEST) / bins
            starts = tf.constant(_LOWEST + width * np.arange(bins), numeric.dtype)
            shares = tf.clip_by_value((values[..., tf.newaxis] - starts) / width, 0.0, 1.0)
            shares = tf.reshape(shares, [tf.shape(shares)[0], len(columns) * bins])
            parts.append(tf.cast(shares, self.compute_dtype))
        return parts

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "inputs": [asdict(spec) for spec in self.inputs],
            "dim": self.dim,
            "l2": self.l2,
        }


def _absent(names: Sequence[str], features: Mapping[str, Any]) -> ValueError:
    return ValueError(
        f"the batch lacks the features {list(names)}; it has {sorted(features)}: encode it with "
        "the encoder that the model was built from"
    )
