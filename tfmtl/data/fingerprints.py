"""64-bit fingerprints of strings, the same as TensorFlow computes inside a graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

# Constants of FarmHash.
_K0 = np.uint64(0xC3A5C85C97CB3127)
_K1 = np.uint64(0xB492B66FBE98F273)
_K2 = np.uint64(0x9AE16A3B2F90404F)
_SEED = np.uint64(81)
_BLOCK = 64


def fingerprints(values: pa.Array) -> np.ndarray:
    """Fingerprints of strings: the FarmHash that `tf.strings.to_hash_bucket_fast` takes modulo.

    They depend on nothing but the bytes, so that an id has the same bucket on every machine, in
    every process and inside an exported model. TensorFlow's own op is not asked: its first call
    fixes the devices and threads of the process, and a log may be encoded before these are chosen.

    Args:
        values: `large_string` array without nulls.

    Returns:
        `uint64 [n]`.

    References:
        FarmHash, `Fingerprint64`, https://github.com/google/farmhash.

    Example:
        >>> [hex(x) for x in fingerprints(pa.array(["", "7"], pa.large_string()))]
        ['0x9ae16a3b2f90404f', '0x8831601f30043498']
    """
    _, offset_buffer, data = values.buffers()
    if not len(values):
        return np.zeros(0, np.uint64)
    offsets = np.frombuffer(offset_buffer, np.int64)[
        values.offset : values.offset + len(values) + 1
    ]
    used = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
    # Behind the last string, so that eight bytes can be read from any place.
    texts = _Bytes(np.concatenate([used, np.zeros(8, np.uint8)]))
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    hashes = np.empty(len(values), np.uint64)
    lower = -1.0
    # Sums and products are those of integers modulo 2^64.
    with np.errstate(over="ignore"):
        for longest, hashed in (
            (0, _empty),
            (3, _up_to_3),
            (7, _up_to_7),
            (16, _up_to_16),
            (32, _up_to_32),
            (64, _up_to_64),
            (np.inf, _longer),
        ):
            (chosen,) = np.nonzero((lengths > lower) & (lengths <= longest))
            if len(chosen):
                hashes[chosen] = hashed(texts, starts[chosen], lengths[chosen])
            lower = longest
    return hashes


class _Bytes:
    """Little-endian words of a buffer, from any byte on."""

    def __init__(self, data: np.ndarray):
        self._bytes = data
        # Overlapping, unaligned views, which indexing copies from.
        self._words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
        self._halves = np.ndarray(len(data) - 3, "<u4", data, strides=(1,))

    def byte(self, places: np.ndarray) -> np.ndarray:
        return self._bytes[places].astype(np.uint32)

    def word(self, places: np.ndarray) -> np.ndarray:
        return self._words[places]

    def half(self, places: np.ndarray) -> np.ndarray:
        return self._halves[places].astype(np.uint64)


class _Pair(NamedTuple):
    first: np.ndarray
    second: np.ndarray


def _shift(values: np.ndarray) -> np.ndarray:
    return values ^ (values >> np.uint64(47))


def _rotate(values: np.ndarray, by: int) -> np.ndarray:
    return (values >> np.uint64(by)) | (values << np.uint64(64 - by))


def _mixed(one: np.ndarray, other: np.ndarray, factor: np.ndarray) -> np.ndarray:
    first = _shift((one ^ other) * factor)
    return _shift((other ^ first) * factor) * factor


def _factor(lengths: np.ndarray) -> np.ndarray:
    return _K2 + lengths.astype(np.uint64) * np.uint64(2)


def _empty(texts: _Bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return np.full(len(starts), _K2)


def _up_to_3(texts: _Bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    middle, last = texts.byte(starts + lengths // 2), texts.byte(starts + lengths - 1)
    one = (texts.byte(starts) + (middle << np.uint32(8))).astype(np.uint64)
    other = (lengths.astype(np.uint32) + (last << np.uint32(2))).astype(np.uint64)
    return _shift(one * _K2 ^ other * _K0) * _K2


def _up_to_7(texts: _Bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    one = lengths.astype(np.uint64) + (texts.half(starts) << np.uint64(3))
    return _mixed(one, texts.half(starts + lengths - 4), _factor(lengths))


def _up_to_16(texts: _Bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    factor = _factor(lengths)
    a, b = texts.word(starts) + _K2, texts.word(starts + lengths - 8)
    return _mixed(_rotate(b, 37) * factor + a, (_rotate(a, 25) + b) * factor, factor)


def _up_to_32(texts: _Bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    factor, ends = _factor(lengths), starts + lengths
    a, b = texts.word(starts) * _K1, texts.word(starts + 8)
    c, d = texts.word(ends - 8) * factor, texts.word(ends - 16) * _K2
    return _mixed(_rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + _K2, 18) + c, factor)


def _up_to_64(texts: _Bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    factor, ends = _factor(lengths), starts + lengths
    a, b = texts.word(starts) * _K2, texts.word(starts + 8)
    c, d = texts.word(ends - 8) * factor, texts.word(ends - 16) * _K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    z = _mixed(y, a + _rotate(b + _K2, 18) + c, factor)
    e, f = texts.word(starts + 16) * factor, texts.word(starts + 24)
    g, h = (y + texts.word(ends - 32)) * factor, (z + texts.word(ends - 24)) * factor
    return _mixed(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, factor)


def _longer(texts: _Bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Block by block of 64 bytes, the last of which overlaps the one before it."""
    y = np.full(len(starts), _SEED * _K1 + np.uint64(113))
    z = _shift(y * _K2 + np.uint64(113)) * _K2
    x = _SEED * _K2 + texts.word(starts)
    v, w = (_Pair(np.zeros_like(y), np.zeros_like(y)) for _ in range(2))
    whole = (lengths - 1) // _BLOCK
    states = np.stack([x, y, z, *v, *w])
    for block in range(int(whole.max())):
        (going,) = np.nonzero(block < whole)
        states[:, going] = _after_block(
            texts, starts[going] + block * _BLOCK, states[:, going], _K1
        )
    x, y, z, v1, v2, w1, w2 = states
    factor = _K1 + ((z & np.uint64(0xFF)) << np.uint64(1))
    w1 = w1 + ((lengths - 1) % _BLOCK).astype(np.uint64)
    v1 = v1 + w1
    w1 = w1 + v1
    x, y, z, v1, v2, w1, w2 = _after_block(
        texts,
        starts + lengths - _BLOCK,
        np.stack([x, y, z, v1, v2, w1, w2]),
        factor,
        last=True,
    )
    return _mixed(_mixed(v1, w1, factor) + _shift(y) * _K0 + z, _mixed(v2, w2, factor) + x, factor)


def _after_block(
    texts: _Bytes, places: np.ndarray, states: np.ndarray, factor: np.ndarray, last: bool = False
) -> np.ndarray:
    """State `[7, n]` of x, y, z and of both halves of v and w after one block."""
    x, y, z, v1, v2, w1, w2 = states
    nine = np.uint64(9 if last else 1)
    x = _rotate(x + y + v1 + texts.word(places + 8), 37) * factor
    y = _rotate(y + v2 + texts.word(places + 48), 42) * factor
    x = x ^ w2 * nine
    y = y + v1 * nine + texts.word(places + 40)
    z = _rotate(z + w1, 33) * factor
    v = _weak(texts, places, v2 * factor, x + w1)
    w = _weak(texts, places + 32, z + w2, y + texts.word(places + 16))
    return np.stack([z, y, x, *v, *w])


def _weak(texts: _Bytes, places: np.ndarray, a: np.ndarray, b: np.ndarray) -> _Pair:
    first, second, third, fourth = (texts.word(places + 8 * number) for number in range(4))
    a = a + first
    b = _rotate(b + a + fourth, 21)
    total = a + second + third
    return _Pair(total + fourth, b + _rotate(total, 44) + a)
