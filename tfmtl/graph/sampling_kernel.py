"""The compiled heart of the neighbour sampler.

Edge sets are numbered 0 item_user, 1 user_item, 2 user_user, 3 item_item; node sets 0 user,
1 item. Nodes are numbered in the order in which they are found, over all channels, hop by hop, so
that their hops ascend. Work and memory are linear in the drawn edges: node ids meet in open hash
tables sized by what was drawn, or in direct tables where those are no larger. Own edges of the
batch are found by one binary search per row and direction.

With a time limit, a node is an id and the number of its limit among the batch's distinct limits: it
draws from the prefix of its row that came before, and what it finds has its limit.

Callees stay in this file: the compiled code's cache on disk notices changes of one file only.
"""

from __future__ import annotations

import numpy as np

from tfmtl.graph.native import native

_TARGET = (0, 1, 0, 1)
_SOURCE = (1, 0, 0, 1)
# The sources that an edge set finds are the next receivers of this edge set of its channel.
_FEEDS = (1, 0, 2, 3)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ID_STEP = np.uint64(0xD1342543DE82EF95)
_U27, _U30, _U31, _U32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_U11 = np.uint64(11)
_LOW = np.uint64(0xFFFFFFFF)
_LOW_31 = np.uint64(0x7FFFFFFF)
_TWO_32 = np.uint64(1 << 32)
# More nodes than any table has slots: pairs of an id and a moment are always hashed.
_MANY = 1 << 62


@native
def _mix(state):  # type: ignore[no-untyped-def]
    """Output function of splitmix64."""
    state = (state ^ (state >> _U30)) * _MIX_1
    state = (state ^ (state >> _U27)) * _MIX_2
    return state ^ (state >> _U31)


@native
def fold_seed(words):  # type: ignore[no-untyped-def]
    """One 64-bit seed from any number of words, `uint64 [n]`."""
    state = _GOLDEN
    for word in words:
        state = _mix(state ^ _mix(word + _GOLDEN)) + _GOLDEN
    return state


@native
def _below(state, bound):  # type: ignore[no-untyped-def]
    """An exactly uniform number in [0, bound) and the state after it (Lemire's rejection)."""
    state += _GOLDEN
    product = (_mix(state) >> _U32) * bound
    if product & _LOW < bound:
        least = (_TWO_32 - bound) % bound
        while product & _LOW < least:
            state += _GOLDEN
            product = (_mix(state) >> _U32) * bound
    return product >> _U32, state


@native
def _skip_own(place, own, first, last):  # type: ignore[no-untyped-def]
    """The row offset of the `place`-th neighbour that is not among own[first:last]."""
    low, high = first, last
    while low < high:
        middle = (low + high) // 2
        if (own[middle] & np.int64(0xFFFFFFFF)) - (middle - first) <= place:
            low = middle + 1
        else:
            high = middle
    return place + (low - first)


@native
def _draw(state, degree, count, start, own, first, last, positions, offset):  # type: ignore[no-untyped-def]
    """Writes `count` distinct edge positions of a row whose free neighbours number `degree`.

    The row is cut into `count` strata of whole neighbours, one is drawn in each, and the whole is
    rotated by a uniform offset: picks are distinct, and each neighbour is drawn with probability
    exactly count / degree.
    """
    masked = last > first
    if degree <= count:
        for place in range(degree):
            free = _skip_own(place, own, first, last) if masked else place
            positions[offset + place] = start + free
        return
    rotation, state = _below(state, np.uint64(degree))
    place = np.int64(rotation)
    width, remainder = degree // count, degree % count
    error = 0
    bits = _GOLDEN
    for draw in range(count):
        stratum = width
        error += remainder
        if error >= count:
            error -= count
            stratum += 1
        if draw & 1 == 0:
            state += _GOLDEN
            bits = _mix(state)
        else:
            bits = bits >> _U32
        pick = place + np.int64(((bits & _LOW) * np.uint64(stratum)) >> _U32)
        if pick >= degree:
            pick -= degree
        free = _skip_own(pick, own, first, last) if masked else pick
        positions[offset + draw] = start + free
        place += stratum
        if place >= degree:
            place -= degree


@native
def _first_above(values, low, high, value):  # type: ignore[no-untyped-def]
    """The first place in [low, high) of an ascending run with an entry above `value`, or high."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] > value:
            high = middle
        else:
            low = middle + 1
    return low


@native
def _draw_weighted(  # type: ignore[no-untyped-def]
    state, start, end, count, cumulative, own, first, last, positions, offset
):
    """Writes distinct edge positions of a row, drawn in proportion to their weight.

    Systematic sampling: `count` equally spaced points, moved by one uniform offset, on the line of
    the free neighbours' weights. A neighbour is drawn where a point falls on it, with probability
    min(1, count weight / total); one that takes several points is written once. Returns how many
    were written.
    """
    degree = end - start - (last - first)
    if degree <= count:
        for place in range(degree):
            free = _skip_own(place, own, first, last) if last > first else place
            positions[offset + place] = start + free
        return degree
    total = cumulative[end - 1]
    for index in range(first, last):
        edge = start + (own[index] & np.int64(0xFFFFFFFF))
        total -= cumulative[edge] - (cumulative[edge - 1] if edge > start else 0.0)
    uniform = np.float64(_mix(state + _GOLDEN) >> _U11) * 2.0**-53
    # Own edges are stepped over: `skipped` is their weight below the point.
    skipped, next_own, low, drawn = 0.0, first, start, 0
    for draw in range(count):
        point = (draw + uniform) * (total / count)
        while next_own < last:
            edge = start + (own[next_own] & np.int64(0xFFFFFFFF))
            below = cumulative[edge - 1] if edge > start else 0.0
            if point + skipped < below:
                break
            skipped += cumulative[edge] - below
            low = max(low, edge + 1)
            next_own += 1
        # Rounding may put the last point on the very end of the line.
        pick = min(_first_above(cumulative, low, end, point + skipped), end - 1)
        if pick < low:
            break
        low = pick
        if drawn == 0 or positions[offset + drawn - 1] != pick:
            positions[offset + drawn] = pick
            drawn += 1
    return drawn


@native
def _draw_edges(  # type: ignore[no-untyped-def]
    receivers, receiver_ids, moments, limits, indptr, times, cumulative, own, fan_out, key
):
    """Targets and positions of the edges drawn for `receivers`.

    Own edges belong to seeds, and the seeds are the receivers of the first hop, in order. Without
    `times` there is no limit, without `cumulative` all edges weigh the same.
    """
    # Sizes, then positions: loops of independent loads hide memory latency.
    starts = np.empty(receivers.size, np.int64)
    ends = np.empty(receivers.size, np.int64)
    own_ends = np.empty(receivers.size, np.int64)
    most, own_end = 0, 0
    for index in range(receivers.size):
        node = receiver_ids[receivers[index]]
        starts[index] = indptr[node]
        ends[index] = indptr[node + 1]
        if times.size > 0:
            # Strictly before the limit: times are whole numbers.
            limit = limits[moments[receivers[index]]]
            ends[index] = _first_above(times, starts[index], ends[index], limit - 1)
        own_start = own_end
        while own_end < own.size and own[own_end] >> 32 == index:
            own_end += 1
        own_ends[index] = own_end
        most += min(ends[index] - starts[index] - (own_end - own_start), fan_out)

    positions = np.empty(most, np.int64)
    targets = np.empty(most, np.int32)
    offset, own_start = 0, 0
    for index in range(receivers.size):
        own_end = own_ends[index]
        free = ends[index] - starts[index] - (own_end - own_start)
        drawn = min(free, fan_out)
        if drawn > 0:
            # Each receiver has its own stream: draws do not depend on the rest of the batch.
            receiver = receivers[index]
            stream = key ^ (np.uint64(receiver_ids[receiver]) * _ID_STEP)
            if limits.size > 0:
                stream ^= _mix(np.uint64(limits[moments[receiver]]) + _GOLDEN)
            state = _mix(stream)
            start = starts[index]
            if cumulative.size > 0:
                drawn = _draw_weighted(
                    state,
                    start,
                    ends[index],
                    fan_out,
                    cumulative,
                    own,
                    own_start,
                    own_end,
                    positions,
                    offset,
                )
            else:
                _draw(state, free, fan_out, start, own, own_start, own_end, positions, offset)
            for place in range(offset, offset + drawn):
                targets[place] = receiver
            offset += drawn
        own_start = own_end
    return targets[:offset], positions[:offset]


@native
def _gathered(values, positions):  # type: ignore[no-untyped-def]
    """`values[positions]` as `int32`, bit by bit."""
    result = np.empty(positions.size, np.int32)
    for edge in range(positions.size):
        result[edge] = values[positions[edge]]
    return result


@native
def _widened(values, size):  # type: ignore[no-untyped-def]
    """The rows of `values`, each with room for `size` entries; the new ones are 0."""
    wider = np.zeros((values.shape[0], size), values.dtype)
    for row in range(values.shape[0]):
        for position in range(values.shape[1]):
            wider[row, position] = values[row, position]
    return wider


@native
def _slots(nodes, num_nodes):  # type: ignore[no-untyped-def]
    """Slots of a table for `nodes` nodes: a power of two, no more than a direct table needs."""
    slots = 16
    while slots < 2 * nodes and slots < num_nodes:
        slots *= 2
    return slots


@native
def _hashing(slots, num_nodes):  # type: ignore[no-untyped-def]
    """Multiplier and shift of the hash; the identity where every id has its own slot."""
    if slots >= num_nodes:
        return np.uint64(1), np.uint64(0)
    shift = np.uint64(64)
    while slots > 1:
        slots //= 2
        shift -= np.uint64(1)
    return _GOLDEN, shift


@native
def _fill_table(table, num_nodes, ids, count):  # type: ignore[no-untyped-def]
    """Enters ids[:count]; a slot is id << 32 | index, or -1."""
    for slot in range(table.size):
        table[slot] = -1
    factor, shift = _hashing(table.size, num_nodes)
    for index in range(count):
        slot = np.int64((np.uint64(ids[index]) * factor) >> shift)
        while table[slot] >= 0:
            slot = (slot + 1) & (table.size - 1)
        table[slot] = (np.int64(ids[index]) << 32) | index


@native
def _find_or_add(keys, table, num_nodes, ids, hops, count, hop, indices):  # type: ignore[no-untyped-def]
    """Turns node ids into indices; new nodes are numbered from `count`. Returns the new count."""
    factor, shift = _hashing(table.size, num_nodes)
    for position in range(keys.size):
        key = np.int64(keys[position])
        slot = np.int64((np.uint64(key) * factor) >> shift)
        while True:
            entry = table[slot]
            if entry < 0:
                table[slot] = (key << 32) | count
                ids[count] = keys[position]
                hops[count] = hop
                indices[position] = count
                count += 1
                break
            if entry >> 32 == key:
                indices[position] = entry & np.int64(0xFFFFFFFF)
                break
            slot = (slot + 1) & (table.size - 1)
    return count


@native
def _hash_at(node, moment):  # type: ignore[no-untyped-def]
    return _mix((np.uint64(moment) << _U32) | np.uint64(node))


@native
def _fill_table_at(table, ids, moments, count):  # type: ignore[no-untyped-def]
    """As `_fill_table` for nodes with a moment; a slot is 31 bits of the hash << 32 | index."""
    for slot in range(table.size):
        table[slot] = -1
    _, shift = _hashing(table.size, _MANY)
    for index in range(count):
        code = _hash_at(ids[index], moments[index])
        slot = np.int64(code >> shift)
        while table[slot] >= 0:
            slot = (slot + 1) & (table.size - 1)
        table[slot] = (np.int64(code & _LOW_31) << 32) | index


@native
def _find_or_add_at(  # type: ignore[no-untyped-def]
    keys, key_moments, table, ids, moments, hops, count, hop, indices
):
    """As `_find_or_add` for nodes with a moment."""
    _, shift = _hashing(table.size, _MANY)
    for position in range(keys.size):
        key, moment = keys[position], key_moments[position]
        code = _hash_at(key, moment)
        mark = np.int64(code & _LOW_31)
        slot = np.int64(code >> shift)
        while True:
            entry = table[slot]
            if entry < 0:
                table[slot] = (mark << 32) | count
                ids[count] = key
                moments[count] = moment
                hops[count] = hop
                indices[position] = count
                count += 1
                break
            index = entry & np.int64(0xFFFFFFFF)
            if entry >> 32 == mark and ids[index] == key and moments[index] == moment:
                indices[position] = index
                break
            slot = (slot + 1) & (table.size - 1)
    return count


@native
def _list_unseen(indices, seen, found, num_found):  # type: ignore[no-untyped-def]
    """Appends to `found` what the channel has not seen before. Returns the new number."""
    for index in indices:
        if seen[index] == 0:
            seen[index] = 1
            found[num_found] = index
            num_found += 1
    return num_found


@native
def _sort(values, count):  # type: ignore[no-untyped-def]
    """Sorts values[:count] in place: a heap sort, as NumPy's takes seconds to compile."""
    for step in range(count // 2 + count):
        end = count if step < count // 2 else count - 1 - (step - count // 2)
        root = count // 2 - 1 - step
        if step >= count // 2:
            values[0], values[end] = values[end], values[0]
            root = 0
        while 2 * root + 1 < end:
            child = 2 * root + 1
            if child + 1 < end and values[child + 1] > values[child]:
                child += 1
            if values[root] >= values[child]:
                break
            values[root], values[child] = values[child], values[root]
            root = child


@native
def _own_edges(receivers, others, receiver_ids, indptr, indices):  # type: ignore[no-untyped-def]
    """Edges of the batch's own rows, as sorted distinct receiver index << 32 | row offset."""
    own = np.empty(receivers.size, np.int64)
    count = 0
    for row in range(receivers.size):
        start = indptr[receiver_ids[receivers[row]]]
        end = indptr[receiver_ids[receivers[row]] + 1]
        low, high = start, end
        while low < high:
            middle = (low + high) // 2
            if indices[middle] < others[row]:
                low = middle + 1
            else:
                high = middle
        if low < end and indices[low] == others[row]:
            own[count] = (np.int64(receivers[row]) << 32) | (low - start)
            count += 1
    _sort(own, count)
    distinct = 0
    for position in range(count):
        if position == 0 or own[position] != own[position - 1]:
            own[distinct] = own[position]
            distinct += 1
    return own[:distinct]


@native
def _nodes(ids, hops, count):  # type: ignore[no-untyped-def]
    nodes = np.empty((2, count), np.int32)
    for index in range(count):
        nodes[0, index] = ids[index]
        nodes[1, index] = hops[index]
    return nodes


@native
def _by_target(edge_set, drawn, segments, num_targets):  # type: ignore[no-untyped-def]
    """Sources, targets and features of one edge set, targets ascending; the sort is stable.

    And the first edge and the number of edges of every target.
    """
    cursor = np.zeros(num_targets + 1, np.int64)
    for segment in segments:
        if segment[0] == edge_set:
            for edge in range(segment[1], segment[2]):
                cursor[drawn[1, edge] + 1] += 1
    for target in range(num_targets):
        cursor[target + 1] += cursor[target]
    edges = np.empty((3, cursor[num_targets]), np.int32)
    spans = np.empty((num_targets, 2), np.int32)
    for target in range(num_targets):
        spans[target, 0] = cursor[target]
        spans[target, 1] = cursor[target + 1] - cursor[target]
    for segment in segments:
        if segment[0] == edge_set:
            for edge in range(segment[1], segment[2]):
                place = cursor[drawn[1, edge]]
                cursor[drawn[1, edge]] += 1
                for part in range(3):
                    edges[part, place] = drawn[part, edge]
    return edges, spans


@native
def sample_subgraph(  # type: ignore[no-untyped-def]
    seed,
    batch,
    row_moments,
    limits,
    indptrs,
    neighbors,
    behaviors,
    weights,
    times,
    cumulatives,
    active,
    fan_outs,
    num_nodes,
    mask_own,
):
    """Draws the subgraph of a batch.

    Args:
        seed: `uint64`.
        batch: `int32 [2, B]`, users and items of the rows, in range.
        row_moments: `int32 [B]`, position of each row's limit in `limits`; empty without limits.
        limits: `int64`, the batch's distinct time limits; empty without limits.
        indptrs: Four `[num_rows + 1]`, all `int32` or all `int64`.
        neighbors: Four `int32 [num_edges]`.
        behaviors: Two unsigned `[num_edges]`, of the interaction edge sets.
        weights: Two `int32 [num_edges]`, the bits of the similarity edges' weights.
        times: Two `[num_edges]` of the interaction edge sets; empty without limits.
        cumulatives: Four `float64 [num_edges]`, sums of weights within each row; empty where all
            neighbours are drawn alike.
        active: `bool [4]`, edge sets to walk.
        fan_outs: `int64 [4, L]`.
        num_nodes: `int64 [2]`.
        mask_own: Whether edges between the two nodes of a row are left out; not with limits.

    Returns:
        Per node set (users, items) `int32 [2, N]` of ids and hops; `int32 [2, B]`, the node of
        each row; per edge set `int32 [3, E]` of sources, targets and features, and `int32 [N, 2]`
        of the first edge and the number of edges of every target; `int32 [4, L + 1]`, per edge set
        and hop how many leading nodes hold the receivers that its channel found by then.
    """
    rows = batch.shape[1]
    limited = limits.size > 0
    counts = np.zeros(2, np.int64)
    ids, hops = np.empty((2, rows), np.int32), np.empty((2, rows), np.int32)
    moments = np.empty((2, rows if limited else 0), np.int32)
    readout = np.empty((2, rows), np.int32)
    universe = np.full(2, _MANY)
    if not limited:
        universe[:] = num_nodes
    slots = np.empty(2, np.int64)
    slots[0], slots[1] = _slots(rows, universe[0]), _slots(rows, universe[1])
    tables = np.empty((2, max(slots[0], slots[1])), np.int64)
    for side in range(2):
        table = tables[side, : slots[side]]
        if limited:
            _fill_table_at(table, ids[side], moments[side], 0)
            counts[side] = _find_or_add_at(
                batch[side],
                row_moments,
                table,
                ids[side],
                moments[side],
                hops[side],
                0,
                0,
                readout[side],
            )
        else:
            _fill_table(table, universe[side], ids[side], 0)
            counts[side] = _find_or_add(
                batch[side], table, universe[side], ids[side], hops[side], 0, 0, readout[side]
            )

    # Per edge set: its receivers in the order in which its channel finds them. Those found in one
    # hop, found[edge_set, begin:end], are expanded in the next.
    seen, found = np.zeros((4, rows), np.uint8), np.zeros((4, rows), np.int32)
    begin, end = np.zeros(4, np.int64), np.zeros(4, np.int64)
    for edge_set in range(4):
        if active[edge_set]:
            seeds = np.arange(counts[_TARGET[edge_set]])
            end[edge_set] = _list_unseen(seeds, seen[edge_set], found[edge_set], 0)

    drawn, num_drawn = np.empty((3, 0), np.int32), 0
    num_hops = fan_outs.shape[1]
    within = np.zeros((4, num_hops + 1), np.int32)
    for edge_set in range(4):
        within[edge_set, 0] = end[edge_set]
    segments = np.zeros((4 * num_hops, 3), np.int64)
    for hop in range(num_hops):
        following = np.empty(4, np.int64)
        for edge_set in range(4):
            following[edge_set] = end[edge_set]
        for edge_set in range(4):
            if begin[edge_set] == end[edge_set]:
                continue
            side, other, feeds = _TARGET[edge_set], _SOURCE[edge_set], _FEEDS[edge_set]
            own = np.empty(0, np.int64)
            if mask_own and hop == 0 and edge_set < 2:
                own = _own_edges(
                    readout[side], batch[other], ids[side], indptrs[edge_set], neighbors[edge_set]
                )
            targets, positions = _draw_edges(
                found[edge_set, begin[edge_set] : end[edge_set]],
                ids[side],
                moments[side],
                limits,
                indptrs[edge_set],
                times[edge_set] if edge_set < 2 else times[0][:0],
                cumulatives[edge_set],
                own,
                fan_outs[edge_set, hop],
                _mix(seed + _GOLDEN * np.uint64(4 * hop + edge_set + 1)),
            )
            source_ids = _gathered(neighbors[edge_set], positions)
            if edge_set < 2:
                values = _gathered(behaviors[edge_set], positions)
            else:
                values = _gathered(weights[edge_set - 2], positions)
            total = targets.size

            need = min(counts[other] + total, universe[other])
            if ids.shape[1] < need:
                ids, hops = _widened(ids, need), _widened(hops, need)
                seen, found = _widened(seen, need), _widened(found, need)
                if limited:
                    moments = _widened(moments, need)
            grows = slots[other] < _slots(need, universe[other])
            if grows:
                slots[other] = _slots(need, universe[other])
                if tables.shape[1] < slots[other]:
                    tables = _widened(tables, slots[other])
            table = tables[other, : slots[other]]
            sources = np.empty(total, np.int32)
            if limited:
                if grows:
                    _fill_table_at(table, ids[other], moments[other], counts[other])
                counts[other] = _find_or_add_at(
                    source_ids,
                    _gathered(moments[side], targets),
                    table,
                    ids[other],
                    moments[other],
                    hops[other],
                    counts[other],
                    hop + 1,
                    sources,
                )
            else:
                if grows:
                    _fill_table(table, universe[other], ids[other], counts[other])
                counts[other] = _find_or_add(
                    source_ids,
                    table,
                    universe[other],
                    ids[other],
                    hops[other],
                    counts[other],
                    hop + 1,
                    sources,
                )
            following[feeds] = _list_unseen(sources, seen[feeds], found[feeds], following[feeds])

            if drawn.shape[1] < num_drawn + total:
                drawn = _widened(drawn, num_drawn + total)
            for edge in range(total):
                drawn[0, num_drawn + edge] = sources[edge]
                drawn[1, num_drawn + edge] = targets[edge]
                drawn[2, num_drawn + edge] = values[edge]
            segments[4 * hop + edge_set, 0] = edge_set
            segments[4 * hop + edge_set, 1] = num_drawn
            segments[4 * hop + edge_set, 2] = num_drawn + total
            num_drawn += total
        begin, end = end, following
        for edge_set in range(4):
            most = within[edge_set, hop]
            for place in range(begin[edge_set], end[edge_set]):
                most = max(most, found[edge_set, place] + 1)
            within[edge_set, hop + 1] = most

    return (
        (_nodes(ids[0], hops[0], counts[0]), _nodes(ids[1], hops[1], counts[1])),
        readout,
        (
            _by_target(0, drawn, segments, counts[0]),
            _by_target(1, drawn, segments, counts[1]),
            _by_target(2, drawn, segments, counts[0]),
            _by_target(3, drawn, segments, counts[1]),
        ),
        within,
    )
