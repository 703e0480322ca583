import resource

import pytest
import tensorflow as tf

from tfmtl.training.checkpoint_folder import CheckpointFolder


@pytest.fixture
def weight():
    return tf.Variable(tf.zeros([1000]))


@pytest.fixture
def folder(weight, tmp_path):
    return CheckpointFolder(tf.train.Checkpoint(weight=weight), tmp_path / "last", size=4000)


def saved(folder):
    weight = tf.Variable(tf.fill([1000], -1.0))
    tf.train.Checkpoint(weight=weight).restore(folder.latest).assert_consumed()
    return float(weight[-1])


def names(folder):
    return {path.name for path in folder.path.iterdir()}


def whole(number):
    return {f"ckpt-{number}.index", f"ckpt-{number}.data-00000-of-00001", "checkpoint"}


@pytest.fixture
def small_files():
    """No file of this process may grow over 2,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_takes_the_place_of_the_one_before(folder, weight):
    for number in (1, 2):
        weight.assign_add(tf.ones([1000]))
        folder.save()
        assert names(folder) == whole(number)
        assert saved(folder) == number


def test_numbers_go_on_where_the_folder_stands(folder, weight):
    folder.save()
    folder.save()
    # What a resumed run restores is not the number of the folder's files.
    other = CheckpointFolder(tf.train.Checkpoint(weight=weight), folder.path, size=4000)
    weight.assign(tf.fill([1000], 7.0))
    other.save()
    assert names(other) == whole(3)
    assert saved(other) == 7


def test_a_file_that_cannot_grow_leaves_the_checkpoint_before(folder, weight, request):
    folder.save()
    weight.assign(tf.ones([1000]))
    request.getfixturevalue("small_files")
    message = (
        r"cannot write the checkpoint .*last/ckpt-2: .*File too large; it takes about 0\.0 MB and "
        r".* MB are free: make room and resume the run \(the checkpoint before it is kept\)"
    )
    with pytest.raises(OSError, match=message) as caught:
        folder.save()
    assert "{{" not in str(caught.value)
    assert "[Op:" not in str(caught.value)
    assert names(folder) == whole(1)
    assert saved(folder) == 0


def test_a_first_checkpoint_that_fails_leaves_nothing(folder, small_files):
    with pytest.raises(OSError, match=r"ckpt-1: .*\(there is none before it\)"):
        folder.save()
    assert names(folder) == set()
    assert folder.latest is None


def test_a_failed_save_can_be_repeated(folder, weight, monkeypatch):
    folder.save()
    with monkeypatch.context() as patch:
        # All is written when the folder's state cannot be.
        patch.setattr(tf.train.CheckpointManager, "_record_state", lambda _: (1).bit_length(2))
        with pytest.raises(TypeError):
            folder.save()
        assert saved(folder) == 0
    weight.assign(tf.ones([1000]))
    folder.save()
    assert saved(folder) == 1
    assert len(names(folder)) == 3


def test_remains_of_a_broken_write_are_removed(folder):
    folder.save()
    (folder.path / "ckpt-2_temp").mkdir()
    (folder.path / "ckpt-2_temp" / "part-00000").write_text("x")
    (folder.path / "ckpt-10.data-00000-of-00001").write_text("x")
    (folder.path / "checkpoint.tmp0123").write_text("x")
    folder.save()
    assert names(folder) == whole(2)
