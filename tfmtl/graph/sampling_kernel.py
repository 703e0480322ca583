"""The compiled heart of the neighbour sampler.

Edge sets are numbered 0 item_user, 1 user_item, 2 user_user, 3 item_item; node sets 0 user,
1 item. Nodes are numbered in the order in which they are found, over all channels, hop by hop, so
that their hops ascend. Work and memory are linear in the drawn edges: node ids meet in open hash
tables sized by what was drawn, or in direct tables where those are no larger. Own edges of the
batch are found by one binary search per row and direction.

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
_LOW = np.uint64(0xFFFFFFFF)
_TWO_32 = np.uint64(1 << 32)


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
def _draw_edges(  # type: ignore[no-untyped-def]
    receivers, receiver_ids, indptr, neighbors, features, own, fan_out, key
):
    """Targets, source ids and features of the edges drawn for `receivers`.

    Own edges belong to seeds, and the seeds are the receivers of the first hop, in order.
    """
    # Sizes, then positions, then gathers: loops of independent loads hide memory latency.
    starts = np.empty(receivers.size, np.int64)
    free = np.empty(receivers.size, np.int64)
    own_ends = np.empty(receivers.size, np.int64)
    total, own_end = 0, 0
    for index in range(receivers.size):
        node = receiver_ids[receivers[index]]
        starts[index] = indptr[node]
        free[index] = indptr[node + 1] - indptr[node]
        while own_end < own.size and own[own_end] >> 32 == index:
            own_end += 1
            free[index] -= 1
        own_ends[index] = own_end
        total += min(free[index], fan_out)

    positions = np.empty(total, np.int64)
    targets = np.empty(total, np.int32)
    offset, own_start = 0, 0
    for index in range(receivers.size):
        drawn = min(free[index], fan_out)
        if drawn > 0:
            # Each receiver has its own stream: draws do not depend on the rest of the batch.
            node = receiver_ids[receivers[index]]
            state = _mix(key ^ (np.uint64(node) * _ID_STEP))
            _draw(
                state,
                free[index],
                fan_out,
                starts[index],
                own,
                own_start,
                own_ends[index],
                positions,
                offset,
            )
            for place in range(offset, offset + drawn):
                targets[place] = receivers[index]
            offset += drawn
        own_start = own_ends[index]

    source_ids = np.empty(total, np.int32)
    values = np.empty(total, np.int32)
    for edge in range(total):
        source_ids[edge] = neighbors[positions[edge]]
        values[edge] = features[positions[edge]]
    return targets, source_ids, values


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
    """Sources, targets and features of one edge set, targets ascending; the sort is stable."""
    cursor = np.zeros(num_targets + 1, np.int64)
    for segment in segments:
        if segment[0] == edge_set:
            for edge in range(segment[1], segment[2]):
                cursor[drawn[1, edge] + 1] += 1
    for target in range(num_targets):
        cursor[target + 1] += cursor[target]
    edges = np.empty((3, cursor[num_targets]), np.int32)
    for segment in segments:
        if segment[0] == edge_set:
            for edge in range(segment[1], segment[2]):
                place = cursor[drawn[1, edge]]
                cursor[drawn[1, edge]] += 1
                for part in range(3):
                    edges[part, place] = drawn[part, edge]
    return edges


@native
def sample_subgraph(  # type: ignore[no-untyped-def]
    seed, batch, indptrs, neighbors, features, active, fan_outs, num_nodes, mask_own
):
    """Draws the subgraph of a batch.

    Args:
        seed: `uint64`.
        batch: `int32 [2, B]`, users and items of the rows, in range.
        indptrs: Four `int64 [num_rows + 1]`.
        neighbors: Four `int32 [num_edges]`.
        features: Four `int32 [num_edges]`, the bits of each edge's feature.
        active: `bool [4]`, edge sets to walk.
        fan_outs: `int64 [4, L]`.
        num_nodes: `int64 [2]`.
        mask_own: Whether edges between the two nodes of a row are left out.

    Returns:
        Per node set (users, items) `int32 [2, N]` of ids and hops; `int32 [2, B]`, the node of
        each row; per edge set `int32 [3, E]` of sources, targets and features.
    """
    rows = batch.shape[1]
    counts = np.zeros(2, np.int64)
    ids, hops = np.empty((2, rows), np.int32), np.empty((2, rows), np.int32)
    readout = np.empty((2, rows), np.int32)
    slots = np.empty(2, np.int64)
    slots[0], slots[1] = _slots(rows, num_nodes[0]), _slots(rows, num_nodes[1])
    tables = np.empty((2, max(slots[0], slots[1])), np.int64)
    for side in range(2):
        table = tables[side, : slots[side]]
        _fill_table(table, num_nodes[side], ids[side], 0)
        counts[side] = _find_or_add(
            batch[side], table, num_nodes[side], ids[side], hops[side], 0, 0, readout[side]
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
            targets, source_ids, values = _draw_edges(
                found[edge_set, begin[edge_set] : end[edge_set]],
                ids[side],
                indptrs[edge_set],
                neighbors[edge_set],
                features[edge_set],
                own,
                fan_outs[edge_set, hop],
                _mix(seed + _GOLDEN * np.uint64(4 * hop + edge_set + 1)),
            )
            total = targets.size

            need = min(counts[other] + total, num_nodes[other])
            if ids.shape[1] < need:
                ids, hops = _widened(ids, need), _widened(hops, need)
                seen, found = _widened(seen, need), _widened(found, need)
            if slots[other] < _slots(need, num_nodes[other]):
                slots[other] = _slots(need, num_nodes[other])
                if tables.shape[1] < slots[other]:
                    tables = _widened(tables, slots[other])
                table = tables[other, : slots[other]]
                _fill_table(table, num_nodes[other], ids[other], counts[other])
            sources = np.empty(total, np.int32)
            counts[other] = _find_or_add(
                source_ids,
                tables[other, : slots[other]],
                num_nodes[other],
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

    return (
        (_nodes(ids[0], hops[0], counts[0]), _nodes(ids[1], hops[1], counts[1])),
        readout,
        (
            _by_target(0, drawn, segments, counts[0]),
            _by_target(1, drawn, segments, counts[1]),
            _by_target(2, drawn, segments, counts[0]),
            _by_target(3, drawn, segments, counts[1]),
        ),
    )
