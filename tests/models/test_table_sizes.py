import sys

import pytest
import tf_keras as keras

from tfmtl.data import InputSpec
from tfmtl.models import STEM, MMoE, SingleTask, TableSize, check_memory, table_sizes
from tfmtl.schema import Task
from tfmtl.training import LazyAdam

GIB = 2**30
USER = InputSpec("user_id", "categorical", "user", 100, 1, "user_id")
ITEM = InputSpec("item_id", "categorical", "item", 40, 1, "item_id")
SEEN = InputSpec("seen", "list", "user", 40, 5, "item_id", list_kind="sequence")
TAB = InputSpec("tab", "categorical", "context", 200, 1)
PRICE = InputSpec("price", "numeric", "context", 0, 1)
INPUTS = [USER, ITEM, SEEN, TAB, PRICE]


def test_sizes_are_those_of_the_rows_and_their_slots_the_largest_first():
    # A row of 16 numbers of 4 bytes and two slots takes 192 bytes; items share one vocabulary.
    assert table_sizes(INPUTS, embedding_dim=16, drawing=0) == [
        TableSize("tab", 200, 38400),
        TableSize("user_id", 100, 19200),
        TableSize("item_id", 40, 7680),
    ]


def test_tables_are_made_one_after_another():
    # Three tables with two slots each are nine times 64 bytes per row, and two are for making one.
    (tab,) = table_sizes([TAB], embedding_dim=16, tables=3)
    assert tab == TableSize("tab", 600, 200 * 64 * 11)


def test_dtype_slots_and_number_of_tables():
    (tab,) = table_sizes([TAB], embedding_dim=8, slots=0, bytes_per_weight=2, drawing=0)
    assert tab.num_bytes == 200 * 8 * 2
    (tab,) = table_sizes([TAB], embedding_dim=8, slots=1, tables=3, drawing=0)
    assert tab == TableSize("tab", 600, 600 * 8 * 4 * 2)


def test_numbers_take_no_table():
    assert table_sizes([PRICE], embedding_dim=8) == []


@pytest.mark.parametrize(
    ("model", "tables"), [(MMoE, 1), (SingleTask, 2), (STEM, 3)], ids=["mmoe", "single", "stem"]
)
@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, LazyAdam], ids=["adam", "lazy"])
def test_a_model_takes_what_was_said(model, tables, optimizer):
    built = model([Task(name="click"), Task(name="like")], INPUTS, embedding_dim=4)
    built.build_weights()
    adam = optimizer()
    adam.build(built.trainable_variables)
    # Tables, and both moments of each, are all that has a row per id.
    taken = [
        variable.shape.num_elements() * variable.dtype.size
        for variable in (*built.trainable_variables, *adam.variables)
        if variable.shape.rank and variable.shape[0] == 1 + 340
    ]
    padding = tables * 4 * 4 * 3
    sizes = table_sizes(INPUTS, embedding_dim=4, tables=tables, drawing=0)
    assert sum(taken) == sum(size.num_bytes for size in sizes) + padding


@pytest.mark.parametrize(
    "options", [{"embedding_dim": 0}, {"slots": -1}, {"tables": 0}, {"drawing": -1}]
)
def test_sizes_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="expected embedding_dim, bytes_per_weight and tables of"):
        table_sizes(INPUTS, **{"embedding_dim": 4, **options})


def test_tables_that_fit_are_accepted():
    sizes = table_sizes(INPUTS, embedding_dim=16, drawing=0)
    check_memory(sizes, available=38400 + 19200 + 7680)
    check_memory([], available=0)
    check_memory(sizes)


def test_tables_that_do_not_fit_are_named_with_what_makes_them_smaller():
    specs = [
        InputSpec("device", "categorical", "context", 50_000_000, 1),
        InputSpec("item_id", "categorical", "item", 20_000_000, 1, "item_id"),
        InputSpec("brand", "categorical", "item", 1000, 1),
        InputSpec("tab", "categorical", "context", 10, 1),
    ]
    with pytest.raises(MemoryError) as raised:
        check_memory(table_sizes(specs, embedding_dim=16, drawing=0), available=8 * GIB)
    # 50 M and 20 M rows of 192 bytes are 8.94 and 3.58 GiB.
    assert str(raised.value) == (
        "embedding tables and their optimiser slots take 12.5 GiB of 8.0 GiB that are available; "
        "the largest are 'device' (50,000,000 rows, 8.9 GiB), 'item_id' (20,000,000 rows, 3.6 "
        "GiB), 'brand' (1,000 rows, 188 KiB): lower embedding_dim, set min_count or hash_buckets "
        "on these features, leave ids out of the inputs (exclude_inputs), take an optimiser with "
        "fewer slots, or a machine with more memory"
    )


def test_ids_of_users_and_items_are_not_told_to_be_hashed():
    with pytest.raises(MemoryError, match=r"lower embedding_dim, leave ids out of the inputs") as e:
        check_memory(table_sizes([USER, ITEM], embedding_dim=16), available=100)
    assert "hash_buckets" not in str(e.value)
    assert "of 100 bytes that are available" in str(e.value)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes what the system says of memory, and returns the files' folder."""
    module = sys.modules["tfmtl.models.table_sizes"]
    monkeypatch.setattr(module, "_MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(module, "_OWN_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "_CGROUP_ROOT", tmp_path / "root")

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


def available():
    """Bytes that are available, as an error says them."""
    with pytest.raises(MemoryError) as raised:
        check_memory([TableSize("tab", 1, 2**60)])
    return str(raised.value).split(" of ", 1)[1].split(" that are")[0]


MEMINFO = {"meminfo": "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n"}


def test_the_system_says_what_is_available(system):
    system(MEMINFO)
    assert available() == "8.0 GiB"


def test_a_limit_of_the_process_holds_where_it_is_lower(system):
    # 4 GiB are allowed and 3 used, one of them by cached files.
    group = {
        "cgroup": "0::/jobs/own\n",
        "root/jobs/own/memory.max": f"{4 * GIB}\n",
        "root/jobs/own/memory.current": f"{3 * GIB}\n",
        "root/jobs/own/memory.stat": f"anon {2 * GIB}\ninactive_file {GIB}\n",
    }
    system(MEMINFO | group)
    assert available() == "2.0 GiB"
    system({"root/jobs/own/memory.max": "max\n"})
    assert available() == "8.0 GiB"
    # A limit of the group around it, of which everything is used.
    system({"root/jobs/memory.max": "5\n", "root/jobs/memory.current": "7\n"})
    assert available() == "0 bytes"


def test_a_limit_inside_a_container_whose_own_path_is_hidden(system):
    group = {"root/memory.max": f"{GIB}", "root/memory.current": "0", "cgroup": "0::/elsewhere\n"}
    system(MEMINFO | group)
    assert available() == "1.0 GiB"


def test_the_first_version_of_cgroups_is_read_too(system):
    group = {
        "cgroup": "3:cpu:/x\n2:hugetlb,memory:/job\n",
        "root/memory/job/memory.limit_in_bytes": f"{6 * GIB}",
        "root/memory/job/memory.usage_in_bytes": f"{GIB}",
    }
    system(MEMINFO | group)
    assert available() == "5.0 GiB"


def test_nothing_is_refused_where_the_system_says_nothing(system):
    system({})
    check_memory([TableSize("tab", 1, 2**60)])
