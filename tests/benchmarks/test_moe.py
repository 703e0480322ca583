import pytest

from benchmarks.moe import expert_cost, task_cost
from benchmarks.side_by_side import milliseconds, ratio, side_by_side


def test_ratios_are_those_of_the_same_round():
    times = {"slow": [4.0, 9.0, 40.0], "fast": [2.0, 3.0, 8.0]}
    assert ratio(times, "slow", "fast") == 3
    assert milliseconds(times) == {"slow": 9000, "fast": 3000}


def test_functions_take_turns_and_the_first_round_is_left_out():
    calls = []
    times = side_by_side({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == list("ababab")
    assert [len(own) for own in times.values()] == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["task_sentence", "token"])
def test_experts_are_measured(routing):
    measured = expert_cost.measure(rows=4, routing=routing, rounds=1)
    assert set(measured["expert_growth"]) == {"forward", "step"}
    assert all(value > 0 for value in measured["sparse_vs_dense"].values())


@pytest.mark.slow
@pytest.mark.parametrize("task_token", ["mixed", "late"])
def test_tasks_are_measured(task_token):
    measured = task_cost.measure(rows=2, task_token=task_token, rounds=1)
    assert measured["all_tasks_speedup"] > 0
    assert measured["task_growth"] > 0


def test_a_task_adds_one_row_of_the_table_of_sentences():
    added = task_cost.parameters_per_task()
    assert added["params_per_task"] == added["width_of_a_word"] == 128
