"""A row's features as a few tokens: history, context, text and item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.feature_embedding import FeatureEmbedding
from tfmtl.layers.parallel_transformer_block import ParallelTransformerBlock
from tfmtl.layers.sequence_pooling import SequencePooling
from tfmtl.layers.text_encoder import TextEncoder
from tfmtl.layers.wide_and_deep import WideAndDeep
from tfmtl.schema import ITEM_ID

TOKENS = ("sequence", "context", "text", "item")


def inputs_of_tokens(
    inputs: Sequence[InputSpec], text_inputs: Sequence[str] | None = None
) -> dict[str, tuple[InputSpec, ...]]:
    """Which inputs each token is made of.

    Args:
        inputs: What the encoder emits.
        text_inputs: Names of the text inputs; those of kind text and the precomputed vectors when
            not given.

    Returns:
        `sequence` (inputs of kind sequence), `text`, `item` (the rest of the item side) and
        `context` (all others) to their inputs.

    Raises:
        ValueError: If a text input is unknown or neither a list nor a vector.

    Example:
        >>> specs = [InputSpec("item_id", "categorical", "item", 9, 1),
        ...          InputSpec("title", "list", "item", 9, 4, list_kind="text")]
        >>> {token: [spec.name for spec in own] for token, own in inputs_of_tokens(specs).items()}
        {'sequence': [], 'context': [], 'text': ['title'], 'item': ['item_id']}
    """
    known = {spec.name: spec for spec in inputs}
    if text_inputs is None:
        text_inputs = [spec.name for spec in inputs if spec.list_kind == "text" or spec.vector]
    readable = [spec.name for spec in inputs if spec.kind == "list" or spec.vector]
    unreadable = sorted(set(text_inputs) - set(readable))
    if unreadable:
        raise ValueError(
            f"expected text inputs among the lists and vectors {readable}; received {unreadable}: "
            "name a feature of kind text, a list, or a vector"
        )
    parts: dict[str, list[InputSpec]] = {"sequence": [], "context": [], "text": [], "item": []}
    for name, spec in known.items():
        if name in text_inputs:
            parts["text"].append(spec)
        elif spec.list_kind == "sequence":
            parts["sequence"].append(spec)
        else:
            parts["item" if spec.side == "item" else "context"].append(spec)
    return {token: tuple(own) for token, own in parts.items()}


@keras.utils.register_keras_serializable(package="tfmtl")
class RowTokens(keras.layers.Layer):
    """Encodes each kind of a row's features as one token of width D.

    - `sequence`: events x_l = item_l ⊙ page_l, with item_l a linear map of the event's item and
      page_l one of what else is known of the event; parallel transformer blocks, then
      `SequencePooling`. Positions whose item is 0 are padding.
    - `context`: `WideAndDeep` of the user's and the row's own features, with powers of the numbers
      where these have no bins.
    - `text`: a linear map of the texts' encodings, side by side.
    - `item`: a linear map of the item's features.

    Sets of ids are the mean of their embeddings, and zeros when empty. Order is as above. A history
    of length 0 and an empty text each have one learned vector.

    Shapes: B rows, n tokens, D `dim`, L length of the history.

    Args:
        embedding: The model's table, with all inputs but texts.
        parts: Token to its inputs, as `inputs_of_tokens` returns them, without tokens that are
            left out.
        dim: Width D.
        num_blocks: Blocks of the sequence encoder.
        num_heads: Heads of its blocks and of the text encoder's.
        text_encoder: Keras layer that maps the ids `int [B, L]` of a text, 0 for padding, to
            `float [B, K]`, shared by all texts; a `TextEncoder` for each when not given.
            Precomputed vectors are not encoded.
        context_units: Hidden widths of the context's deep part, which then also reads its numbers;
            none in the release.
        dropout: Share of the blocks' outputs dropped in training.
        **kwargs: Passed to `keras.layers.Layer`.

    Input: dict of encoded features. Output shape: `float [B, n, D]`.

    Raises:
        ValueError: If there is no token, or the sequences have no items, several, or differ in
            length.

    References:
        GRec (CIKM 2023), inputs of the released code.

    Deviations:
        The linear maps stand where the release chooses widths that add up to D. Padding
        is masked in attention and pooling.

    Example:
        >>> specs = [InputSpec("item_id", "categorical", "item", 9, 1, "item_id"),
        ...          InputSpec("seen", "list", "context", 9, 4, "item_id", list_kind="sequence")]
        >>> tokens = RowTokens(FeatureEmbedding(specs, dim=4), inputs_of_tokens(specs), dim=8)
        >>> tokens({"item_id": tf.constant([1]), "seen": tf.constant([[3, 2, 0, 0]])}).shape
        TensorShape([1, 2, 8])
    """

    def __init__(
        self,
        embedding: FeatureEmbedding,
        parts: Mapping[str, Sequence[InputSpec]],
        *,
        dim: int = 64,
        num_blocks: int = 2,
        num_heads: int = 4,
        text_encoder: keras.layers.Layer | None = None,
        context_units: Sequence[int] = (),
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.parts = {token: tuple(parts.get(token, ())) for token in TOKENS}
        self.dim = int(dim)
        self.num_blocks = int(num_blocks)
        self.num_heads = int(num_heads)
        self.text_encoder = text_encoder
        self.context_units = [int(width) for width in context_units]
        self.dropout = float(dropout)
        self.names = tuple(token for token in TOKENS if self.parts[token])
        if not self.names:
            raise ValueError(
                f"expected inputs of at least one token of {list(TOKENS)}; received none: keep "
                "another token, or give the model more inputs"
            )
        self._check_sequences()

    def _check_sequences(self) -> None:
        specs = self.parts["sequence"]
        items = [spec for spec in specs if (spec.vocabulary or spec.name) == ITEM_ID]
        if specs and (len(items) != 1 or len({spec.width for spec in specs}) > 1):
            described = {spec.name: (spec.vocabulary, spec.width) for spec in specs}
            raise ValueError(
                "expected one sequence of items (vocabulary 'item_id') and any others of the same "
                f"length beside it; received vocabularies and lengths {described}: leave some out "
                "of the inputs, or give them one max_length"
            )

    def build(self, input_shape: Any) -> None:
        """Creates the encoders of all tokens."""
        del input_shape
        if not self.embedding.built:
            with tf.name_scope(self.embedding.name):
                self.embedding.build(None)
        self._dense: dict[str, keras.layers.Layer] = {}
        width = self.embedding.dim
        if "sequence" in self.names:
            others = len(self.parts["sequence"]) - 1
            self._add_dense("sequence_items", width)
            if others:
                # Around 1, so that an event is its item to begin with.
                self._add_dense("sequence_events", others * width, bias_initializer="ones")
            self._blocks = [
                ParallelTransformerBlock(
                    self.num_heads,
                    dropout=self.dropout,
                    dtype=self.dtype_policy,
                    name=f"block_{number}",
                )
                for number in range(self.num_blocks)
            ]
            self._pool = SequencePooling(dtype=self.dtype_policy, name="pool")
            sublayers: list[keras.layers.Layer] = [*self._blocks, self._pool]
            for layer in sublayers:
                with tf.name_scope(layer.name):
                    layer.build([None, None, self.dim])
        if "context" in self.names:
            self._context = WideAndDeep(
                self.dim,
                deep_units=self.context_units,
                # Bins bend at every bound already, and squares of what is far out upset them.
                powers=not any(spec.bins for spec in self.parts["context"]),
                joint=bool(self.context_units),
                dtype=self.dtype_policy,
                name="context",
            )
            deep, wide = self._widths(self.parts["context"])
            sizes = {"deep": deep, "wide": wide}
            with tf.name_scope(self._context.name):
                self._context.build({part: [None, size] for part, size in sizes.items() if size})
        if "text" in self.names:
            self._build_texts()
        if "item" in self.names:
            self._add_dense("item", sum(self._widths(self.parts["item"])))
        super().build(None)

    def _add_dense(self, name: str, columns: int, **options: Any) -> None:
        dense = keras.layers.Dense(self.dim, dtype=self.dtype_policy, name=name, **options)
        with tf.name_scope(name):
            dense.build([None, columns])
        self._dense[name] = dense

    def _build_texts(self) -> None:
        self._encoders, columns = {}, 0
        for spec in self.parts["text"]:
            if spec.vector:
                columns += spec.width
                continue
            encoder = self.text_encoder
            if encoder is None:
                encoder = TextEncoder(
                    spec.vocabulary_size,
                    self.dim,
                    num_heads=self.num_heads,
                    dropout=self.dropout,
                    dtype=self.dtype_policy,
                    name=f"text_{spec.name}",
                )
            self._encoders[spec.name] = encoder
            columns += int(encoder(tf.zeros([1, spec.width], tf.int32)).shape[-1])
        self._add_dense("text", columns)

    def _widths(self, specs: Sequence[InputSpec]) -> tuple[int, int]:
        """Columns of embeddings and bins, and of numbers."""
        deep = sum(
            spec.width * spec.bins if spec.kind == "numeric" else self.embedding.dim
            for spec in specs
        )
        return deep, sum(spec.width for spec in specs if spec.kind == "numeric")

    def call(self, features: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        """Maps a batch to tokens `[B, n, D]`."""
        vectors = [spec.name for spec in self.parts["text"] if spec.vector]
        names = [
            spec.name for token in ("sequence", "context", "item") for spec in self.parts[token]
        ]
        embedded = self.embedding(features, names=[*names, *vectors])
        tokens = []
        for token in self.names:
            if token == "sequence":
                tokens.append(self._encode_sequence(features, embedded, training))
            elif token == "context":
                deep, wide = self._columns(self.parts["context"], features, embedded)
                parts = {"deep": deep, "wide": wide}
                inputs = {name: tf.concat(own, axis=-1) for name, own in parts.items() if own}
                tokens.append(self._context(inputs, training=training))
            elif token == "text":
                texts = [
                    embedded[spec.name]
                    if spec.vector
                    else tf.cast(self._encoders[spec.name](features[spec.name]), self.compute_dtype)
                    for spec in self.parts["text"]
                ]
                tokens.append(self._dense["text"](tf.concat(texts, axis=-1)))
            else:
                deep, wide = self._columns(self.parts["item"], features, embedded)
                tokens.append(self._dense["item"](tf.concat([*deep, *wide], axis=-1)))
        return tf.stack([tf.cast(token, self.compute_dtype) for token in tokens], axis=1)

    def _encode_sequence(
        self, features: Mapping[str, Any], embedded: Mapping[str, tf.Tensor], training: bool | None
    ) -> tf.Tensor:
        items: list[str] = []
        others: list[str] = []
        for spec in self.parts["sequence"]:
            (items if (spec.vocabulary or spec.name) == ITEM_ID else others).append(spec.name)
        states = self._dense["sequence_items"](embedded[items[0]])
        if others:
            events = tf.concat([embedded[name] for name in others], axis=-1)
            states *= self._dense["sequence_events"](events)
        mask = features[items[0]] > 0
        for block in self._blocks:
            states = block(states, mask, training=training)
        return self._pool(states, mask)

    def _columns(
        self,
        specs: Sequence[InputSpec],
        features: Mapping[str, Any],
        embedded: Mapping[str, tf.Tensor],
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Embeddings and bins, and numbers, each `[B, ...]`."""
        deep, wide = [], []
        for spec in specs:
            part = embedded[spec.name]
            if spec.kind == "list":
                present = tf.cast(features[spec.name] > 0, part.dtype)[..., tf.newaxis]
                number = tf.maximum(tf.reduce_sum(present, axis=1), 1)
                part = tf.reduce_sum(part * present, axis=1) / number
            if spec.kind == "numeric":
                wide.append(part)
                if spec.bins:
                    deep.append(embedded[f"{spec.name}/bins"])
            else:
                deep.append(part)
        return deep, wide
