"""Counts common neighbours of many pairs at once and keeps the best of each row."""

from __future__ import annotations

import numpy as np

from tfmtl.graph.native import native

# Words of 64 columns that are added up and searched together: few enough that the counters stay
# in the first-level cache.
CHUNK = 128
# Candidates of one chunk, in multiples of the list's length, that are scored in one go; where there
# are more, those of the highest counts go first and raise the bar for the others.
_CROWD = 4
# A row with more pivots' members than this part of the columns sweeps over all counters instead of
# remembering which it has touched.
_SWEEP = 8
# The position of a lone bit b is _PLACES[(b * _DE_BRUIJN) >> 58]: every six bits in a row of the
# De Bruijn sequence are different.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_PLACES = np.zeros(64, np.int64)
for _place in range(64):
    _PLACES[((int(_DE_BRUIJN) << _place) & (2**64 - 1)) >> 58] = _place


@native
def columns_of_pivots(columns, indptr, pivots, hub_of, num_hubs):  # type: ignore[no-untyped-def]
    """Bitmap of the columns of each hub, and lists of the columns of all other pivots.

    A bitmap without any column follows those of the hubs.
    """
    starts = np.zeros(hub_of.size + 1, np.int64)
    for column in columns:
        for edge in range(indptr[column], indptr[column + 1]):
            if hub_of[pivots[edge]] == -1:
                starts[pivots[edge] + 1] += 1
    for pivot in range(hub_of.size):
        starts[pivot + 1] += starts[pivot]
    cursor = starts[:-1].copy()
    # Unsigned, so that indexing by them need not test for negative numbers.
    members = np.empty(starts[-1], np.uint32)
    num_chunks = (columns.size + 64 * CHUNK - 1) // (64 * CHUNK) if num_hubs else 0
    bitmaps = np.zeros((num_chunks, num_hubs + 1, CHUNK), np.uint64)
    for rank in range(columns.size):
        for edge in range(indptr[columns[rank]], indptr[columns[rank] + 1]):
            pivot = pivots[edge]
            if hub_of[pivot] >= 0:
                chunk, word = rank // (64 * CHUNK), (rank >> 6) % CHUNK
                bitmaps[chunk, hub_of[pivot], word] |= np.uint64(1) << np.uint64(rank & 63)
            elif hub_of[pivot] == -1:
                members[cursor[pivot]] = rank
                cursor[pivot] += 1
    return bitmaps, starts, members


@native
def _num_bits(number):  # type: ignore[no-untyped-def]
    bits = 0
    while number >> bits:
        bits += 1
    return bits


@native
def _count_one(slots, column):  # type: ignore[no-untyped-def]
    """Adds one to a column's count; returns the number of bits of the new count."""
    chunk, word = column // (64 * CHUNK), (column >> 6) % CHUNK
    carry, plane = np.uint64(1) << np.uint64(column & 63), 0
    while carry:
        plane += 1
        over = slots[chunk, plane * CHUNK + word] & carry
        slots[chunk, plane * CHUNK + word] ^= carry
        carry = over
    return plane


@native
def _add_four(slots, first, second, third, fourth):  # type: ignore[no-untyped-def]
    """Adds four bitmaps to the four lowest planes; what carries over is left in slot 0."""
    for word in range(CHUNK):
        ones = slots[CHUNK + word]
        half = ones ^ first[word]
        pair = (ones & first[word]) | (half & second[word])
        ones = half ^ second[word]
        half = ones ^ third[word]
        other_pair = (ones & third[word]) | (half & fourth[word])
        slots[CHUNK + word] = half ^ fourth[word]
        twos = slots[2 * CHUNK + word]
        half = twos ^ pair
        carry = (twos & pair) | (half & other_pair)
        slots[2 * CHUNK + word] = half ^ other_pair
        fours = slots[3 * CHUNK + word]
        slots[3 * CHUNK + word] = fours ^ carry
        carry &= fours
        eights = slots[4 * CHUNK + word]
        slots[4 * CHUNK + word] = eights ^ carry
        slots[word] = eights & carry


@native
def _add_carry(plane, carry):  # type: ignore[no-untyped-def]
    for word in range(CHUNK):
        over = plane[word] & carry[word]
        plane[word] ^= carry[word]
        carry[word] = over


@native
def _count_hubs(slots, bitmaps, hubs, num_planes):  # type: ignore[no-untyped-def]
    """Adds the bitmaps of hubs, a multiple of four, to the counts of one chunk of columns."""
    for place in range(0, hubs.size, 4):
        _add_four(
            slots,
            bitmaps[hubs[place]],
            bitmaps[hubs[place + 1]],
            bitmaps[hubs[place + 2]],
            bitmaps[hubs[place + 3]],
        )
        for plane in range(5, num_planes + 1):
            _add_carry(slots[plane * CHUNK : (plane + 1) * CHUNK], slots[:CHUNK])


@native
def _at_least(slots, num_planes, least, found):  # type: ignore[no-untyped-def]
    """Marks the columns whose count is `least` or more: count + (2^num_planes - least) carries."""
    addend = (1 << num_planes) - least
    found[:] = 0
    for plane in range(num_planes):
        bits = slots[(plane + 1) * CHUNK : (plane + 2) * CHUNK]
        if (addend >> plane) & 1:
            for word in range(CHUNK):
                found[word] |= bits[word]
        else:
            for word in range(CHUNK):
                found[word] &= bits[word]


@native
def _is_crowded(found, most):  # type: ignore[no-untyped-def]
    """Whether more than `most` columns are marked."""
    marked = 0
    for bits in found:
        while bits:
            bits &= bits - np.uint64(1)
            marked += 1
        if marked > most:
            return True
    return False


@native
def _score(measure, shared, own_size, other_size):  # type: ignore[no-untyped-def]
    score = np.float64(shared)
    if measure == 1:
        score /= np.sqrt(np.float64(own_size * other_size))
    elif measure == 2:
        score /= np.float64(own_size + other_size - shared)
    return score


@native
def _least_common(measure, score, own_size, other_size):  # type: ignore[no-untyped-def]
    """A count below which no column of `other_size` or more neighbours reaches `score`."""
    least = score
    if measure == 1:
        least = score * np.sqrt(np.float64(own_size * other_size))
    elif measure == 2:
        least = score * np.float64(own_size + other_size) / (1.0 + score)
    # Rounding must not lose a column that reaches the score exactly.
    return np.int64(np.ceil(least * (1 - 1e-9)))


@native
def _offer(best, best_scores, kept, column, score):  # type: ignore[no-untyped-def]
    """Puts a column into the list of the best, best first; returns the list's new length."""
    if kept == best.size:
        if score < best_scores[kept - 1] or (
            score == best_scores[kept - 1] and column > best[kept - 1]
        ):
            return kept
        kept -= 1
    place = kept
    while place > 0 and (
        best_scores[place - 1] < score
        or (best_scores[place - 1] == score and best[place - 1] > column)
    ):
        best[place] = best[place - 1]
        best_scores[place] = best_scores[place - 1]
        place -= 1
    best[place] = column
    best_scores[place] = score
    return kept + 1


@native
def _offer_bits(  # type: ignore[no-untyped-def]
    row,
    own_size,
    num_planes,
    slots,
    found,
    first,
    columns,
    column_sizes,
    below,
    best,
    best_scores,
    kept,
    measure,
):
    """Offers the marked columns of one chunk whose count is less than `below`."""
    for word in range(CHUNK):
        bits = found[word]
        while bits:
            lowest = bits & (~bits + np.uint64(1))
            bits ^= lowest
            place = _PLACES[np.int64((lowest * _DE_BRUIJN) >> np.uint64(58))]
            shared = 0
            for plane in range(num_planes):
                bit = (slots[(plane + 1) * CHUNK + word] >> np.uint64(place)) & np.uint64(1)
                shared += np.int64(bit) << plane
            column = first + 64 * word + place
            if shared < below and columns[column] != row:
                score = _score(measure, shared, own_size, column_sizes[column])
                kept = _offer(best, best_scores, kept, columns[column], score)
    return kept


@native
def _offer_chunk(  # type: ignore[no-untyped-def]
    row,
    own_size,
    num_planes,
    slots,
    bitmaps,
    hubs,
    found,
    first,
    columns,
    column_sizes,
    best,
    best_scores,
    kept,
    measure,
    min_common,
):
    """Offers the columns of one chunk that can still enter the list."""
    sizes = column_sizes[first : first + 64 * CHUNK]
    smallest, least = sizes[-1], min_common + 1
    below = min(1 << num_planes, own_size + 1)
    counted = False
    while True:
        if kept == best.size:
            reach = _least_common(measure, best_scores[kept - 1], own_size, smallest)
            # Columns that come by id lose a draw against the list.
            if measure == 0 and best[kept - 1] < columns[first]:
                reach += 1
            least = max(least, reach)
        if least >= below:
            return kept
        if not counted:
            _count_hubs(slots, bitmaps, hubs, num_planes)
            counted = True
        stage = least
        _at_least(slots, num_planes, stage, found)
        while stage + 1 < below and _is_crowded(found, _CROWD * best.size):
            stage += 1
            _at_least(slots, num_planes, stage, found)
        kept = _offer_bits(
            row,
            own_size,
            num_planes,
            slots,
            found,
            first,
            columns,
            column_sizes,
            below,
            best,
            best_scores,
            kept,
            measure,
        )
        below = stage


@native
def _search_with_hubs(  # type: ignore[no-untyped-def]
    row,
    own_size,
    own,
    hub_of,
    hubs,
    slots,
    found,
    columns,
    column_sizes,
    bitmaps,
    starts,
    members,
    best,
    best_scores,
    kept,
    measure,
    min_common,
):
    """Offers all columns to the list of a row with hubs among its pivots `own`."""
    slots[:, : (max(_num_bits(own_size), 4) + 1) * CHUNK] = 0
    num_hubs = num_bits = 0
    for pivot in own:
        if hub_of[pivot] >= 0:
            hubs[num_hubs] = hub_of[pivot]
            num_hubs += 1
        else:
            for place in range(starts[pivot], starts[pivot + 1]):
                num_bits = max(num_bits, _count_one(slots, members[place]))
    num_planes = max(_num_bits(min(own_size, num_hubs + (1 << num_bits) - 1)), 4)
    padded = (num_hubs + 3) // 4 * 4
    hubs[num_hubs:padded] = bitmaps.shape[1] - 1
    for chunk in range(bitmaps.shape[0]):
        kept = _offer_chunk(
            row,
            own_size,
            num_planes,
            slots[chunk],
            bitmaps[chunk],
            hubs[:padded],
            found,
            chunk * 64 * CHUNK,
            columns,
            column_sizes,
            best,
            best_scores,
            kept,
            measure,
            min_common,
        )
    return kept


@native
def _search_without_hubs(  # type: ignore[no-untyped-def]
    row,
    own_size,
    own,
    common,
    touched,
    columns,
    column_sizes,
    starts,
    members,
    best,
    best_scores,
    kept,
    measure,
    min_common,
):
    """Offers all columns to the list of a row without hubs; `common` is zero before and after."""
    num_members = 0
    for pivot in own:
        num_members += starts[pivot + 1] - starts[pivot]
    if num_members * _SWEEP > columns.size:
        for pivot in own:
            for place in range(starts[pivot], starts[pivot + 1]):
                common[members[place]] += 1
        for low in range(0, columns.size, 64):
            swept, most = common[low : low + 64], 0
            for count in swept:
                most = max(most, count)
            if most > min_common:
                for place in range(swept.size):
                    if swept[place] > min_common and columns[low + place] != row:
                        score = _score(
                            measure, np.int64(swept[place]), own_size, column_sizes[low + place]
                        )
                        kept = _offer(best, best_scores, kept, columns[low + place], score)
        common[:] = 0
        return kept
    num_touched = 0
    for pivot in own:
        for place in range(starts[pivot], starts[pivot + 1]):
            column = members[place]
            # No branch: whether a column is new is a coin toss to the processor.
            touched[num_touched] = column
            num_touched += common[column] == 0
            common[column] += 1
    for column in touched[:num_touched]:
        shared = np.int64(common[column])
        common[column] = 0
        if shared > min_common and columns[column] != row:
            score = _score(measure, shared, own_size, column_sizes[column])
            kept = _offer(best, best_scores, kept, columns[column], score)
    return kept


@native
def best_columns(  # type: ignore[no-untyped-def]
    rows,
    row_sizes,
    indptr,
    pivots,
    hub_of,
    columns,
    column_sizes,
    bitmaps,
    starts,
    members,
    best,
    best_scores,
    counts,
    measure,
    min_common,
):
    """Offers to the lists of `rows` all columns with more than `min_common` common neighbours.

    The columns come by id for `count`, by falling size for the other measures. The lists may hold
    other columns already.
    """
    common = np.zeros(columns.size, np.int32)
    touched = np.empty(columns.size + 1, np.int32)
    most = 0
    for size in row_sizes:
        most = max(most, size)
    hubs = np.empty(most + 3, np.int64)
    slots = np.empty((bitmaps.shape[0], (max(_num_bits(most), 4) + 1) * CHUNK), np.uint64)
    found = np.empty(CHUNK, np.uint64)
    for index in range(rows.size):
        row = rows[index]
        own = pivots[indptr[row] : indptr[row + 1]]
        has_hub = False
        if bitmaps.size:
            for pivot in own:
                has_hub |= hub_of[pivot] >= 0
        if has_hub:
            counts[index] = _search_with_hubs(
                row,
                row_sizes[index],
                own,
                hub_of,
                hubs,
                slots,
                found,
                columns,
                column_sizes,
                bitmaps,
                starts,
                members,
                best[index],
                best_scores[index],
                counts[index],
                measure,
                min_common,
            )
        else:
            counts[index] = _search_without_hubs(
                row,
                row_sizes[index],
                own,
                common,
                touched,
                columns,
                column_sizes,
                starts,
                members,
                best[index],
                best_scores[index],
                counts[index],
                measure,
                min_common,
            )


@native
def by_column(best, best_scores, counts):  # type: ignore[no-untyped-def]
    """The lists one after the other, each by ascending column."""
    columns = np.empty(counts.sum(), np.int32)
    weights = np.empty(columns.size, np.float32)
    end = 0
    for index in range(counts.size):
        order = np.argsort(best[index, : counts[index]])
        for place in order:
            columns[end] = best[index, place]
            weights[end] = best_scores[index, place]
            end += 1
    return columns, weights


@native
def seed_lists(  # type: ignore[no-untyped-def]
    old_rows, indptr, indices, weights, sizes, new_ids, stays, best, best_scores, measure
):
    """Starts lists with those entries of earlier lists that stay, under their new ids.

    Returns the lengths, and the last entry and its score of each earlier list that was full;
    column -1 where it was not.
    """
    counts = np.zeros(old_rows.size, np.int64)
    last = np.full(old_rows.size, -1, np.int64)
    last_scores = np.zeros(old_rows.size, np.float64)
    for index in range(old_rows.size):
        row, lowest, lowest_score = old_rows[index], -1, np.inf
        for edge in range(indptr[row], indptr[row + 1]):
            column, shared = indices[edge], np.float64(weights[edge])
            # The rounded weight still tells the whole number of common neighbours, and with it
            # the score before rounding.
            if measure == 1:
                shared *= np.sqrt(np.float64(sizes[row] * sizes[column]))
            elif measure == 2:
                shared *= np.float64(sizes[row] + sizes[column]) / (1.0 + shared)
            score = _score(measure, np.int64(np.rint(shared)), sizes[row], sizes[column])
            if score <= lowest_score:
                lowest, lowest_score = new_ids[column], score
            if stays[column]:
                counts[index] = _offer(
                    best[index], best_scores[index], counts[index], new_ids[column], score
                )
        if indptr[row + 1] - indptr[row] == best.shape[1]:
            last[index], last_scores[index] = lowest, lowest_score
    return counts, last, last_scores
