import itertools

import pytest

from tests.models.behavior_chain import CHAIN, PARENTS
from tfmtl.data.task_chains import task_chains
from tfmtl.schema import Task


@pytest.mark.parametrize("tasks", itertools.permutations(CHAIN))
def test_chains_do_not_depend_on_the_list(tasks):
    chains = task_chains(tasks)
    assert chains == PARENTS
    assert list(chains) == [task.name for task in tasks]


def test_branches_and_tasks_of_their_own():
    tasks = [
        Task(name="click"),
        Task(name="like", parent="click"),
        Task(name="share", parent="click"),
        Task(name="watch"),
    ]
    assert task_chains(tasks) == {
        "click": ("click",),
        "like": ("click", "like"),
        "share": ("click", "share"),
        "watch": ("watch",),
    }


def test_refuses_a_parent_that_the_model_lacks():
    with pytest.raises(
        ValueError,
        match=r"among the model's tasks \['buy', 'like'\]; received task 'like' with parent "
        r"'click': add the parent",
    ):
        task_chains([Task(name="buy", parent="like"), Task(name="like", parent="click")])


def test_refuses_a_circle():
    tasks = [Task(name="a", parent="b"), Task(name="b", parent="c"), Task(name="c", parent="b")]
    with pytest.raises(ValueError, match="not their own ancestors; received the parents"):
        task_chains(tasks)
