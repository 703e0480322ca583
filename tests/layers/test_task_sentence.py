import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import TaskSentence
from tfmtl.testing import run_layer_test


def test_concatenates_one_table_per_position():
    layer = TaskSentence([2, 3], 4)
    layer.build([None, 2])
    layer.set_weights([np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8], [9, 10]])])
    # Token 1 is [3, 4] as the main task and [7, 8] as an auxiliary one.
    received = layer(tf.constant([[1, 1], [0, 2]]))
    np.testing.assert_array_equal(received, [[3, 4, 7, 8], [1, 2, 9, 10]])


def test_projects_where_positions_do_not_divide_the_width():
    layer = TaskSentence([2, 1], 3)
    layer.build([None, 2])
    # Tables are ceil(3 / 2) = 2 wide. [1, -2, 3, 5] times the map, column by column:
    # 1 - 2 = -1; 2 (-2) + 5 = 1; 3.
    layer.set_weights(
        [
            np.array([[9, 9], [1, -2]]),
            np.array([[3, 5]]),
            np.array([[1, 0, 0], [1, 2, 0], [0, 0, 1], [0, 1, 0]]),
        ]
    )
    np.testing.assert_array_equal(layer(tf.constant([[1, 0]])), [[-1, 1, 3]])


def test_embeds_the_main_task_alone():
    layer = TaskSentence([2, 3], 4)
    layer.build([None, 2])
    layer.set_weights([np.array([[1, 2], [3, 4]]), np.full([3, 2], 7)])
    np.testing.assert_array_equal(layer.embed_main(tf.constant([[1, 2], [0, 0]])), [[3, 4], [1, 2]])


@pytest.mark.parametrize("unknown", [-1, 2, 1_000_000])
def test_an_unknown_token_is_zeros(unknown):
    layer = TaskSentence([2, 2], 4)
    layer.build([None, 2])
    layer.set_weights([np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]])])
    np.testing.assert_array_equal(layer(tf.constant([[unknown, 1]])), [[0, 0, 7, 8]])


def test_one_more_task_costs_one_row():
    def parameters(tasks):
        layer = TaskSentence([tasks, 4], 16)
        layer.build([None, 2])
        return layer.count_params()

    assert parameters(9) - parameters(8) == 8


def test_a_sentence_starts_as_large_as_normed_tokens():
    sentences = TaskSentence([500, 400], 16)(tf.constant([[row, row % 400] for row in range(500)]))
    # Mean square 1 up to about a tenth of a tenth: of 14400 numbers, sqrt(2 / 14400) = 0.012.
    assert np.mean(np.square(sentences)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dim", [6, 7])
def test_as_a_layer(dim):
    tasks = tf.constant([[0, 1, 0], [1, 3, 1], [1, 0, 0]])
    assert run_layer_test(lambda: TaskSentence([2, 4, 2], dim), tasks).shape == (3, dim)


@pytest.mark.parametrize("tokens", [[], [2, 0]])
def test_refuses_positions_without_tokens(tokens):
    with pytest.raises(ValueError, match=r"at least one token each; received num_tokens_per_posi"):
        TaskSentence(tokens, 4)


def test_refuses_a_width_of_zero():
    with pytest.raises(ValueError, match="expected a positive dim; received 0: give the width"):
        TaskSentence([2], 0)


def test_refuses_another_number_of_positions():
    with pytest.raises(ValueError, match=r"expected task sentences of 2 tokens.*received 3"):
        TaskSentence([2, 2], 4)(tf.constant([[0, 0, 0]]))
