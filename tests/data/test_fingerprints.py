import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tfmtl.data.fingerprints import fingerprints


def hashed_by_tensorflow(texts, buckets):
    return tf.strings.to_hash_bucket_fast(tf.constant(texts), buckets).numpy().astype(np.uint64)


@pytest.mark.parametrize("buckets", [1, 7, 1000, 2**31 - 2, 2**62])
def test_every_length_has_the_fingerprint_of_tensorflow(buckets):
    rng = np.random.default_rng(3)
    # Bounds of the cases are 0, 3, 7, 16, 32, 64 and multiples of 64 bytes; three texts of each.
    texts = [
        "".join(map(chr, rng.integers(33, 127, length))) for length in range(260) for _ in range(3)
    ]
    received = fingerprints(pa.array(texts, pa.large_string())) % np.uint64(buckets)
    np.testing.assert_array_equal(received, hashed_by_tensorflow(texts, buckets))


def test_texts_of_several_bytes_per_character():
    texts = ["", "é", "日本語", "naïve café" * 9, "\0", "a\0b", "🎬" * 40]
    received = fingerprints(pa.array(texts, pa.large_string())) % np.uint64(10**9)
    np.testing.assert_array_equal(received, hashed_by_tensorflow(texts, 10**9))


def test_a_slice_is_hashed_as_itself():
    texts = ["first", "second one", "the third", "last"]
    whole = fingerprints(pa.array(texts, pa.large_string()))
    np.testing.assert_array_equal(
        fingerprints(pa.array(texts, pa.large_string()).slice(1, 2)), whole[1:3]
    )


def test_nothing_has_no_fingerprints():
    assert fingerprints(pa.array([], pa.large_string())).shape == (0,)
    assert fingerprints(pa.array(["a"], pa.large_string()).slice(1)).shape == (0,)
