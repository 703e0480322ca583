import numpy as np
import pyarrow as pa
import pytest

from tests.graph.macro_logs import (
    BLOCKS,
    SCHEMA,
    block_log,
    block_rows,
    changed,
    counts,
    numbers_of,
    one_hot,
)
from tfmtl.data import FeatureEncoder, HeldOutLog, TrainingLog
from tfmtl.graph import (
    BundleError,
    MacroConfig,
    MacroGraph,
    behavior_scores,
    build_macro_graph,
    training_versions,
)
from tfmtl.graph.macro_graph import ARRAYS, VERSIONED
from tfmtl.schema import ITEM_ID, USER_ID, Schema, Task

ALL_ACTIVE = {"activity": "value", "user_threshold": 0, "item_threshold": 0}
CONFIG = MacroConfig(user_nodes=3, item_nodes=3, folds=3, recent=4, **ALL_ACTIVE)


@pytest.fixture(scope="module")
def train():
    return block_log()


@pytest.fixture(scope="module")
def encoder(train):
    return FeatureEncoder.fit(train)


@pytest.fixture(scope="module")
def graph(train, encoder):
    return build_macro_graph(train, encoder, CONFIG)


def ids_of(log, encoder):
    return (
        encoder.vocabularies[USER_ID].encode(log.user_ids),
        encoder.vocabularies[ITEM_ID].encode(log.item_ids),
    )


def behaviors_of(log, encoder, kept):
    """Matrices A of click and buy from the rows that are kept."""
    users, items = ids_of(log, encoder)
    sizes = [encoder.vocabularies[name].size for name in (USER_ID, ITEM_ID)]
    matrices = np.zeros((2, *sizes), int)
    for task, name in enumerate(("click", "buy")):
        np.maximum.at(matrices[task], (users[kept], items[kept]), log.labels(name)[kept] == 1)
    return matrices


def assert_equal_graphs(one, two, names=ARRAYS):
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


def assert_version(graph, version, of_tasks):
    c_u, c_i = one_hot(graph.user_groups[version], 3), one_hot(graph.item_groups[version], 3)
    s = behavior_scores(SCHEMA.tasks)[of_tasks[0] + 2 * of_tasks[1]]
    np.testing.assert_allclose(counts(graph.user_rows[version, :, :4]), s @ c_i, atol=0.02)
    np.testing.assert_allclose(counts(graph.user_rows[version, :, 4:8]), s @ (s.T @ c_u), rtol=5e-3)
    np.testing.assert_allclose(counts(graph.item_rows[version, :, 4:8]), s.T @ (s @ c_i), rtol=5e-3)
    for task, a in enumerate(of_tasks):
        columns = slice(8 + 4 * task, 12 + 4 * task)
        np.testing.assert_array_equal(counts(graph.user_rows[version, :, columns]).round(), a @ c_i)
        np.testing.assert_array_equal(
            counts(graph.item_rows[version, :, columns]).round(), a.T @ c_u
        )


def test_version_0_counts_all_rows_and_the_others_leave_a_fold_out(train, encoder, graph):
    versions = training_versions(CONFIG, len(train))
    assert graph.num_versions == 4
    assert_version(graph, 0, behaviors_of(train, encoder, versions > 0))
    for version in (1, 2, 3):
        assert_version(graph, version, behaviors_of(train, encoder, versions != version))


def test_a_graph_knows_what_it_was_made_from(train, encoder, graph):
    assert graph.manifest["tasks"] == ["click", "buy"]
    assert MacroConfig.model_validate(graph.manifest["macro"]) == CONFIG
    last = 1000 + len(train) - 1
    graph.check(
        time_window=[1000, last],
        encoder_fingerprint=encoder.fingerprint(),
        split_fingerprint=train.fingerprint(),
        history_fingerprint=None,
    )
    later = changed(train, ts=train.times + 5)
    with pytest.raises(BundleError, match=r"was built with time_window \[1000, 1119\], now it is"):
        graph.check(time_window=[int(later.times.min()), int(later.times.max())])
    with pytest.raises(BundleError, match="the macro graph was built with split_fingerprint"):
        graph.check(split_fingerprint=later.fingerprint())


def test_blocks_become_macro_nodes(encoder, graph):
    for of_raw_ids, first in zip(numbers_of(graph, encoder), (100, 500), strict=True):
        for block in range(BLOCKS):
            members = {number for raw, number in of_raw_ids.items() if (raw - first) % 3 == block}
            assert len(members) == 1
        assert set(of_raw_ids.values()) == {1, 2, 3}


def test_a_row_that_is_all_a_user_has_is_unknown_to_the_version_it_reads(train):
    """For every fold: a new user with one click, which version 0 alone must know of."""
    row = {"u": 900, "v": 500, "ts": 5000, "click": 1, "buy": 1, "cat": 0, "age": 0, "price": 1.0}
    rows = train.rows.to_pydict()
    folds, places = np.unique(training_versions(CONFIG, len(train) + 1), return_index=True)
    assert folds.tolist() == [1, 2, 3]
    for own, place in zip(folds, places, strict=True):
        columns = {name: [*of[:place], row[name], *of[place:]] for name, of in rows.items()}
        log = TrainingLog(pa.table(columns), SCHEMA)
        encoder = FeatureEncoder.fit(log)
        graph = build_macro_graph(log, encoder, CONFIG)
        user = int(encoder.vocabularies[USER_ID].encode([900])[0])
        item = int(encoder.vocabularies[ITEM_ID].encode([500])[0])
        for version in range(4):
            knows = bool(version != own)
            assert graph.user_rows[version, user].any() == knows
            assert graph.recent_items[version, user].tolist() == [item * knows, 0, 0, 0]
            assert graph.recent_item_behaviors[version, user].tolist() == [3 * knows, 0, 0, 0]
            assert (user in graph.recent_users[version, item]) == knows


def test_a_label_does_not_change_the_tables_that_its_row_reads(train, encoder, graph):
    """Given the groups, tables that a row reads are the same for a positive and a negative."""
    versions = training_versions(CONFIG, len(train))
    for place in range(0, len(train), 13):
        click = train.labels("click").astype(int)
        click[place] = 1 - click[place]
        flipped = build_macro_graph(
            changed(train, click=click), encoder, CONFIG, previous=(graph, encoder), regroup=False
        )
        own = versions[place]
        for name in VERSIONED:
            before, after = (getattr(of, name)[own] for of in (graph, flipped))
            np.testing.assert_array_equal(before, after, err_msg=name)
        user, item = (ids[place] for ids in ids_of(train, encoder))
        others = [version for version in range(4) if version != own]
        if train.labels("buy")[place] == 0:
            assert (graph.user_rows[others, user] != flipped.user_rows[others, user]).any(1).all()
            assert (graph.item_rows[others, item] != flipped.item_rows[others, item]).any(1).all()


def test_with_a_history_training_rows_read_what_is_older_than_the_log(train):
    history, rest = train.select(np.arange(60)), train.select(np.arange(60, 120))
    encoder = FeatureEncoder.fit(rest, history)
    config = CONFIG.model_copy(update={"counting": "history"})
    graph = build_macro_graph(rest, encoder, config, history=history)
    assert graph.num_versions == 2
    every = np.ones(60, bool)
    assert_version(graph, 1, behaviors_of(history, encoder, every))
    together = np.maximum(behaviors_of(history, encoder, every), behaviors_of(rest, encoder, every))
    assert_version(graph, 0, together)
    assert graph.manifest["history_fingerprint"] == history.fingerprint()
    assert graph.manifest["time_window"] == [1000, 1119]


def test_edges_of_a_history_are_in_every_version(train):
    history, rest = train.select(np.arange(60)), train.select(np.arange(60, 120))
    encoder = FeatureEncoder.fit(rest, history)
    graph = build_macro_graph(rest, encoder, CONFIG, history=history)
    versions = training_versions(CONFIG, 60)
    older = behaviors_of(history, encoder, np.ones(60, bool))
    for version in range(4):
        kept = behaviors_of(rest, encoder, versions != version)
        assert_version(graph, version, np.maximum(older, kept))


def test_rows_of_a_pair_are_one_edge_of_the_latest_time():
    rows = {
        "user_id": [1, 1, 1, 1],
        "item_id": [7, 8, 7, 9],
        "time": [5, 6, 9, 1],
        "click": [1, 1, 0, 1],
        "buy": [0, 0, 1, 0],
    }
    tasks = [Task(name="click"), Task(name="buy", order=1)]
    config = MacroConfig(user_nodes=1, item_nodes=1, recent=3, folds=2)
    for times in ([5, 6, 9, 1], [0.5, 0.6, 0.9, 0.1]):
        log = TrainingLog(pa.table(rows | {"time": times}), Schema(tasks=tasks, time="time"))
        graph = build_macro_graph(log, FeatureEncoder.fit(log), config)
        # Items 7, 8 and 9 are 1, 2 and 3; the last row of item 7 is the latest of all.
        assert graph.recent_items[0, 1].tolist() == [1, 2, 3]
        assert graph.recent_item_behaviors[0, 1].tolist() == [3, 1, 1]
    untimed = TrainingLog(pa.table(rows), Schema(tasks=tasks))
    graph = build_macro_graph(untimed, FeatureEncoder.fit(untimed), config)
    assert graph.manifest["time_window"] is None
    assert graph.recent_items[0, 1].tolist() == [1, 2, 3]


def test_counted_scores_weigh_every_edge_alike(train, encoder):
    config = CONFIG.model_copy(update={"scores": "count"})
    graph = build_macro_graph(train, encoder, config)
    assert graph.scores.tolist() == [0, 1, 1, 1]
    # Every user has four items, all of one macro node.
    assert counts(graph.user_rows[0, 1:, :4]).round().max(1).tolist() == [4] * 24


def test_behaviors_that_are_left_out_are_no_edges(train, encoder):
    config = CONFIG.model_copy(update={"behaviors": ("buy",)})
    graph = build_macro_graph(train, encoder, config)
    assert graph.recent_item_behaviors[0, 1:].tolist() == [[2, 0, 0, 0]] * 24
    assert graph.scores[1] == 0
    # The part of clicks, columns 8 to 11, is there and empty.
    assert not graph.user_rows[:, :, 8:12].any()
    assert graph.user_rows[0, 1:, 12:].any(1).all()


def test_a_behavior_that_a_version_does_not_show_is_zero_there(train, encoder):
    buy = np.zeros(len(train), int)
    buy[6] = 1
    log = changed(train, buy=buy)
    graph = build_macro_graph(log, encoder, CONFIG)
    own = training_versions(CONFIG, len(log))[6]
    for version in range(4):
        assert graph.user_rows[version, :, 12:].any() == (version != own)
    assert np.isfinite(graph.user_rows).all()


def test_quantiles_make_some_nodes_inactive(train, encoder):
    config = MacroConfig(user_nodes=3, item_nodes=3, item_threshold=0.6, weighting="binary")
    graph = build_macro_graph(train, encoder, config)
    everyone = build_macro_graph(train, encoder, MacroConfig(user_nodes=3, item_nodes=3))
    # The first hop counts active items only, the tables of tasks all.
    assert (
        counts(graph.user_rows[0, :, :4]).sum() < 0.9 * counts(everyone.user_rows[0, :, :4]).sum()
    )
    assert counts(graph.user_rows[0, :, 8:]).sum() == pytest.approx(
        counts(everyone.user_rows[0, :, 8:]).sum(), rel=1e-3
    )


def test_a_folder_holds_what_memory_does(train, encoder, graph, tmp_path):
    on_disk = build_macro_graph(train, encoder, CONFIG, folder=tmp_path / "macro")
    assert isinstance(on_disk.user_rows, np.memmap)
    assert_equal_graphs(on_disk, graph)
    loaded = MacroGraph.load(tmp_path / "macro", verify=True)
    loaded.check(encoder_fingerprint=encoder.fingerprint(), split_fingerprint=train.fingerprint())


def test_categories_are_the_macro_items(train, encoder):
    for cluster_users_on in ("neighborhoods", "item_groups"):
        config = CONFIG.model_copy(
            update={"item_groups": "cat", "cluster_users_on": cluster_users_on}
        )
        graph = build_macro_graph(train, encoder, config)
        # Categories 0 to 3 are ids 1 to 4; `item_nodes` has no say.
        assert graph.num_item_nodes == 4
        _, items = numbers_of(graph, encoder)
        assert items == {raw: (raw - 500) % 4 + 1 for raw in items}
        assert graph.item_groups[0, 0] == 0


def test_an_unchanged_log_gives_the_same_tables_again(train, encoder, graph):
    again = build_macro_graph(train, encoder, CONFIG, previous=(graph, encoder), regroup=False)
    assert_equal_graphs(again, graph)


def test_regrouped_macro_nodes_keep_their_numbers(train, encoder, graph):
    found = {tuple(graph.user_groups[0])}
    for seed in (1, 2):
        config = CONFIG.model_copy(update={"seed": seed})
        found.add(tuple(build_macro_graph(train, encoder, config).user_groups[0]))
        again = build_macro_graph(train, encoder, config, previous=(graph, encoder))
        np.testing.assert_array_equal(again.user_groups[0], graph.user_groups[0])
        np.testing.assert_array_equal(again.item_groups[0], graph.item_groups[0])
    # Without the previous graph other seeds number the same blocks otherwise.
    assert len(found) > 1


@pytest.mark.parametrize("regroup", [False, True])
def test_new_users_and_items_find_their_macro_node(encoder, graph, regroup):
    rows = block_rows(users=30, items_of_block=7)
    # Raw ids move: the new users come first, so that all encoded ids change.
    rows["u"] = np.where(rows["u"] >= 124, rows["u"] - 100, rows["u"])
    later = TrainingLog(pa.table(rows), SCHEMA)
    new_encoder = FeatureEncoder.fit(later)
    again = build_macro_graph(
        later, new_encoder, CONFIG, previous=(graph, encoder), regroup=regroup
    )
    users, items = numbers_of(graph, encoder)
    new_users, new_items = numbers_of(again, new_encoder)
    assert (len(new_users), len(new_items)) == (30, 21)
    # Users 124 to 129 came as 24 to 29: 24 mod 3 is the block of user 100.
    assert new_users == {raw: users[100 + raw % 3 if raw < 100 else raw] for raw in new_users}
    assert new_items == {raw: items[500 + (raw - 500) % 3] for raw in new_items}


def test_a_rebuild_fits_the_graph_before(train, encoder, graph):
    def rebuilt(other_encoder=encoder, **options):
        config = CONFIG.model_copy(update=options)
        return build_macro_graph(train, encoder, config, previous=(graph, other_encoder))

    with pytest.raises(ValueError, match="previous macro graph, user_nodes 3; received 4: keep"):
        rebuilt(user_nodes=4)
    with pytest.raises(ValueError, match="in the previous macro graph, item_nodes 3; received 2"):
        rebuilt(item_nodes=2)
    other = FeatureEncoder.fit(train.select(np.arange(90)))
    with pytest.raises(BundleError, match="macro graph was built with encoder_fingerprint"):
        rebuilt(other)
    no_categories = changed(train, cat=[1, 2, 3] * (len(train) // 3))
    with pytest.raises(ValueError, match="categories of the previous macro graph under their old"):
        build_macro_graph(
            no_categories,
            FeatureEncoder.fit(no_categories),
            CONFIG.model_copy(update={"item_groups": "cat"}),
            previous=(graph, encoder),
        )


def test_a_rebuild_refuses_categories_that_were_renumbered(train, encoder):
    config = CONFIG.model_copy(update={"item_groups": "cat"})
    graph = build_macro_graph(train, encoder, config)
    again = build_macro_graph(train, encoder, config, previous=(graph, encoder), regroup=False)
    assert_equal_graphs(again, graph)
    categories = np.array(train.rows["cat"])
    for values, match in (
        # A new category in front moves the numbers of all.
        (np.where(train.item_ids == 501, -1, categories), "item_nodes 4; received 5: keep"),
        (np.where(categories == 2, 9, categories), "'cat'; received others: fit the encoder on"),
    ):
        later = changed(train, cat=values)
        with pytest.raises(ValueError, match=match):
            build_macro_graph(later, FeatureEncoder.fit(later), config, previous=(graph, encoder))


def test_a_graph_without_an_encoder_is_no_previous_one(train, encoder):
    stores = build_macro_graph(train, encoder, CONFIG)
    assert stores.manifest
    bare = MacroGraph(**{**vars(stores), "manifest": {}})
    with pytest.raises(BundleError, match="manifest has no entry 'encoder_fingerprint'"):
        build_macro_graph(train, encoder, CONFIG, previous=(bare, encoder))


@pytest.mark.parametrize("feature", ["colour", "price", "age"])
def test_refuses_item_groups_that_are_no_categories_of_items(train, encoder, feature):
    config = CONFIG.model_copy(update={"item_groups": feature})
    with pytest.raises(
        ValueError, match=rf"macro\.item_groups: expected a categorical .*received '{feature}'"
    ):
        build_macro_graph(train, encoder, config)


def test_refuses_bad_input(train, encoder):
    def built(log=train, history=None, **options):
        config = CONFIG.model_copy(update=options)
        return build_macro_graph(log, encoder, config, history=history)

    with pytest.raises(
        ValueError, match=r"among the tasks \['click', 'buy'\]; received \['like'\]"
    ):
        built(behaviors=("like",))
    with pytest.raises(ValueError, match="counting: history needs rows older than the log"):
        built(counting="history")
    with pytest.raises(ValueError, match="received 24 active users for 30 macro nodes: lower the"):
        built(user_nodes=30)
    zeros = np.zeros(len(train), int)
    with pytest.raises(ValueError, match=r"no row shows any of the behaviours \['click', 'buy'\]"):
        built(changed(train, click=zeros, buy=zeros))
    strangers = changed(train, u=np.arange(len(train)) + 5000)
    with pytest.raises(ValueError, match="no node is active: the highest sum of scores is 0"):
        built(strangers)
    with pytest.raises(TypeError, match="split the log first"):
        built(HeldOutLog(train.rows, SCHEMA))
    with pytest.raises(TypeError, match="from a history"):
        built(history=HeldOutLog(train.rows, SCHEMA))


def test_refuses_a_history_of_other_tasks(train, encoder):
    """Bits are numbered by the tasks of a schema: another order would swap the behaviours."""
    swapped = TrainingLog(train.rows, SCHEMA.model_copy(update={"tasks": SCHEMA.tasks[::-1]}))
    with pytest.raises(ValueError, match=r"tasks \['click', 'buy'\] in the history .*\['buy', 'cl"):
        build_macro_graph(train, encoder, CONFIG, history=swapped)
