import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.conftest import as_tensors, compiled, first_batch, randomize
from tests.models.test_bottom import BOTTOM, MACRO
from tfmtl.data import EncodedLog, FeatureEncoder, HeldOutLog, InputSpec, TrainingLog
from tfmtl.data.pipeline import evaluation_dataset
from tfmtl.models import GRec, build_model
from tfmtl.schema import Feature, Schema, Task
from tfmtl.testing import assert_gradients_reach_every_weight

TASKS = (Task(name="click"), Task(name="like"), Task(name="buy"))
TWO_WORDS = {"click": ["click", "home"], "like": ["like", "home"], "buy": ["like", "shop"]}
ITEM = InputSpec("item_id", "categorical", "item", 9, 1, "item_id")
TAB = InputSpec("tab", "categorical", "context", 5, 1)
PRICE = InputSpec("price", "numeric", "context", 0, 1)
SEEN = InputSpec("seen", "list", "context", 9, 4, "item_id", list_kind="sequence")
TITLE = InputSpec("title", "list", "item", 7, 3, list_kind="text")
COVER = InputSpec("cover", "numeric", "item", 0, 2, vector=True)
INPUTS = (ITEM, TAB, PRICE, SEEN, TITLE, COVER)
ROUTINGS = ("task_sentence", "token", "gated_sentence", "sentence", "task")
SIZES = (1, 2, 3, 5, 17, 33, 100)
OPTIONS = {
    "defaults": {},
    "late": {"task_token": "late"},
    "none": {"task_token": "none"},
    "by token": {"routing": "token"},
    "by gated sentence": {"routing": "gated_sentence"},
    "by mean token": {"routing": "sentence"},
    "by main task": {"routing": "task", "sentences": TWO_WORDS, "task_token": "late"},
    "two experts": {"k": 2},
    "own heads": {"shared_head": False},
    "modulated head": {"modulated_head": True},
    "modulated head alone": {"modulated_head": True, "task_token": "none", "routing": "token"},
    "own heads alone": {"shared_head": False, "task_token": "none", "routing": "token"},
    "two words": {"sentences": TWO_WORDS},
    "words of the row": {"sentence_inputs": ["tab"]},
}


def model_of(tasks=TASKS, inputs=INPUTS, seed=1, **options):
    """A model whose answers differ from row to row and from task to task."""
    keras.utils.set_random_seed(seed)
    arguments = {"embedding_dim": 4, "dim": 8, "num_experts": 4, "jitter": 0.0, **options}
    model = GRec(tasks, inputs, **arguments)
    model.build_weights()
    randomize(model, seed)
    for weight in model.trainable_weights:
        weight.assign(0.6 * weight)
    return model


def features_of(size=12, inputs=INPUTS, seed=2):
    random, features = np.random.default_rng(seed), {}
    for spec in inputs:
        shape = [size, spec.width] if spec.kind == "list" or spec.width > 1 else [size]
        if spec.kind == "numeric":
            features[spec.name] = random.normal(size=shape).astype(np.float32)
        else:
            features[spec.name] = random.integers(0, spec.vocabulary_size, shape).astype(np.int32)
    return as_tensors(features)


def batch_of(size=12, defined=None, seed=3, tasks=TASKS):
    """Features, labels and weights; `defined` is `[size, T]`, every task on every row if None."""
    random = np.random.default_rng(seed)
    weights = np.ones([size, len(tasks)], np.float32) if defined is None else defined
    labels = random.integers(0, 2, [size, len(tasks)]).astype(np.float32)
    named = [
        {task.name: tf.constant(values[:, number], tf.float32) for number, task in enumerate(tasks)}
        for values in (labels, weights)
    ]
    return (features_of(size), *named)


def answers(model, features):
    return {name: value.numpy() for name, value in model.probabilities(features).items()}


def train_one_step(model, batch, optimizer=None):
    compiled(model, optimizer or keras.optimizers.SGD(0.1))
    return {name: float(value) for name, value in model.train_step(batch).items()}


def gradients_of(model, batch):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
    return float(loss), [np.asarray(tf.convert_to_tensor(gradient)) for gradient in gradients]


def named(model):
    """Weights by the last parts of their names."""
    return {w.name.removeprefix(f"{model.name}/").split(":")[0]: w for w in model.trainable_weights}


def test_golden():
    model = GRec(
        [Task(name="click"), Task(name="like")],
        [InputSpec("item_id", "categorical", "item", 3, 1, "item_id")],
        embedding_dim=2,
        dim=2,
        num_experts=2,
        task_token="late",
    )
    model.build_weights()
    third = math.log(3)
    fused = np.zeros([2, 2 + 2 + 2 + 8 + 8])
    # Queries and keys say nothing of a single token. Value: columns 4 and 5.
    fused[:, 4:6] = [[1, 0], [1, 2]]
    # First linear and first gate unit.
    fused[0, 6], fused[0, 14] = 1 / third, third
    forward_out = np.zeros([8, 2])
    forward_out[0] = [4, 0]
    of_like = [(7 * third - math.log(4)) / 50, (-7 * math.log(4) - third) / 50]
    values = {
        # Rows: padding, items 0 to 2.
        "embedding/table": [[9, 9], [9, 9], [1, 2], [9, 9]],
        "tokens/item/kernel": [[1, 0], [1, 1]],
        "tokens/item/bias": [0, -1],
        "sentence/table_0": [[7, -1], [1, 7]],
        "mixer/norm/gamma": [1, 2],
        "mixer/fused/kernel": fused,
        "mixer/attention_out/kernel": [[2, 0], [0, 1.75]],
        "mixer/forward_out/kernel": forward_out,
        "moe/norm/scale": [1, 2],
        "moe/router/kernel": [[0, of_like[0]], [0, of_like[1]]],
        "moe/router/bias": [0, 0],
        "moe/experts/kernel_0": [[[1, 1], [0, 0.5]], [[5, 0], [0, 1]]],
        "moe/experts/kernel_1": [[[0, 5], [1, 0]], [[1, 0], [1, 5]]],
        "head/dense_0/kernel": [[1, 0], [0, 1], [0, -1], [1, 0]],
        "head/dense_0/bias": [0, 0],
        "outputs/kernel": [[1], [0.5]],
        "outputs/bias": [0.5],
    }
    weights = named(model)
    assert sorted(weights) == sorted(values)
    for name, weight in weights.items():
        weight.assign(values[name])
    # Item 1: [1 + 2, 2 - 1] = [3, 1]. Normed [1, -1], scaled [1, -2].
    # Attention to itself: value [1 - 2, -4]; out [-2, -7].
    # Feed-forward: SiLU(ln 3) / ln 3 = 1 / (1 + 1/3) = 0.75; out [3, 0]. Mixed: [1, -7].
    # Click: s = [7, -1], logits 0 and ln 3: expert 1 with 0.75.
    #   Mean square 25, so that tokens become [0.2, -2.8] and [1.4, -0.4].
    #   Hidden [1, -0.56] and [7, -0.08]; out [0.44, -2.8] and [6.92, -0.4].
    #   Tokens [1 + 0.33, -7 - 2.1] and [7 + 5.19, -1 - 0.3].
    #   Head: 1.33 - 1.3 = 0.03; -9.1 - 12.19 = -21.29, a fifth of which passes.
    #   0.03 - 2.129 + 0.5 = -1.599.
    # Like: s = [1, 7], logits 0 and -ln 4: expert 0 with 0.8. Tokens [0.2, -2.8], [0.2, 2.8].
    #   Hidden [0.2, -0.24] and [0.2, 1.6]; out [-0.24, 1] and [1.6, 1].
    #   Tokens [1 - 0.192, -7 + 0.8] and [1 + 1.28, 7 + 0.8].
    #   Head: 0.808 + 7.8 = 8.608; -6.2 - 2.28 = -8.48, a fifth of which passes.
    #   8.608 - 0.848 + 0.5 = 8.26.
    logits = model({"item_id": tf.constant([1])})
    np.testing.assert_allclose(logits["click"], [-1.599], rtol=1e-4)
    np.testing.assert_allclose(logits["like"], [8.26], rtol=1e-4)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_ways_to_ask_give_the_same_answers(options):
    model, features = model_of(**options), features_of()
    every = model.predict_all_tasks(features).numpy()
    assert every.shape == (12, 3)
    assert np.ptp(every, axis=0).min() > 1e-2
    assert np.ptp(every, axis=1).max() > 1e-2
    logits = model(features)
    for number, task in enumerate(model.task_names):
        np.testing.assert_allclose(tf.sigmoid(logits[task]), every[:, number], atol=1e-6)
        one = model.predict_task(features, task)
        np.testing.assert_allclose(one, every[:, number], atol=1e-6)


def test_rows_may_bring_sentences_of_their_own():
    model, features = model_of(sentences=TWO_WORDS, sentence_inputs=["tab"]), features_of()
    assert model.vocabularies == (("click", "like"), ("home", "shop"))
    every = model.predict_all_tasks(features).numpy()
    # Buy is [like, shop] and click [click, home].
    number = np.arange(12) % 2
    words = np.where(number[:, np.newaxis] == 0, [[1, 1]], [[0, 0]])
    words = np.concatenate([words, features["tab"].numpy()[:, np.newaxis]], axis=1)
    received = model.predict_sentences(features, tf.constant(words))
    np.testing.assert_allclose(received, np.where(number == 0, every[:, 2], every[:, 0]), atol=1e-6)
    mixed = model.predict_sentences(features, tf.constant([[0, 1, 2]] * 12))
    assert np.isfinite(mixed).all()


@pytest.mark.parametrize("options", [{}, {"routing": "token"}, {"k": 2}])
@pytest.mark.parametrize("word", [-1, 3, 2**30, -(2**31)])
def test_an_unknown_task_gets_the_answer_of_a_sentence_of_zeros(options, word):
    model, features = model_of(**options), features_of()
    unknown = model.predict_sentences(features, tf.fill([12, 1], word))
    known = model.predict_sentences(features, tf.fill([12, 1], 0))
    assert np.isfinite(unknown).all()
    assert np.abs(unknown - known).max() > 1e-3
    model.sentence.tables[0].assign(tf.zeros_like(model.sentence.tables[0]))
    zeros = model.predict_sentences(features, tf.fill([12, 1], 0))
    np.testing.assert_array_equal(unknown, zeros)


def parameters(model):
    return sum(weight.shape.num_elements() for weight in model.trainable_weights)


def test_a_task_costs_one_row_per_new_word():
    one_word = model_of()
    # Width 8 in one table.
    assert parameters(one_word.add_task(Task(name="share"))) - parameters(one_word) == 8
    two_words = model_of(sentences=TWO_WORDS)
    for sentence, new in (
        (["share", "mall"], 8),
        (["share", "shop"], 4),
        (["click", "mall"], 4),
        (["click", "shop"], 0),
    ):
        grown = two_words.add_task(Task(name="share"), sentence=sentence)
        assert parameters(grown) - parameters(two_words) == new
        assert grown.task_names == ("click", "like", "buy", "share")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"task_token": "late"},
        {"task_token": "none"},
        {"routing": "token"},
        {"k": 2},
        {"k": 2, "routing": "gated_sentence", "dispatch": "blocks"},
        {"shared_head": False, "weighting": "uncertainty"},
        {"dim": 32, "embedding_dim": 16, "sentence_inputs": ["tab"]},
    ],
    ids=str,
)
def test_a_new_task_changes_no_bit_of_the_others(options):
    model = model_of(**options)
    grown = model.add_task(Task(name="share"))
    for size in SIZES:
        features = features_of(size)
        before, after = answers(model, features), answers(grown, features)
        assert list(after) == ["click", "like", "buy", "share"]
        for task, expected in before.items():
            np.testing.assert_array_equal(after[task], expected, err_msg=f"{task}, {size} rows")
    assert np.abs(after["share"] - after["buy"]).max() > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sentences": TWO_WORDS},
        {"shared_head": False},
        {"shared_head": False, "task_token": "none", "routing": "token"},
    ],
    ids=str,
)
def test_a_new_task_may_start_like_another(options):
    model, features = model_of(**options), features_of()
    sentence = ["share", "home"] if "sentences" in options else None
    grown = model.add_task(Task(name="share"), sentence=sentence, like="like")
    received = answers(grown, features)
    np.testing.assert_array_equal(received["share"], received["like"])
    assert np.abs(received["share"] - received["click"]).max() > 1e-3


def test_training_the_new_model_leaves_the_old_one_alone():
    encoder = keras.Sequential(
        [keras.layers.Embedding(7, 3), keras.layers.GlobalAveragePooling1D()]
    )
    model, features = model_of(text_encoder=encoder), features_of()
    before = answers(model, features)
    grown = model.add_task(Task(name="share"), like="buy")
    assert not {id(w) for w in model.weights} & {id(w) for w in grown.weights}
    for task, expected in before.items():
        np.testing.assert_array_equal(answers(grown, features)[task], expected)
    train_one_step(grown, batch_of(tasks=grown.tasks))
    for task, expected in before.items():
        np.testing.assert_array_equal(answers(model, features)[task], expected)
        assert np.abs(answers(grown, features)[task] - expected).max() > 1e-4
    # What has been added once can be added to.
    twice = grown.add_task(Task(name="rate"))
    assert twice.task_names == ("click", "like", "buy", "share", "rate")
    np.testing.assert_array_equal(
        answers(twice, features)["share"], answers(grown, features)["share"]
    )


def test_a_task_is_added_to_a_trained_model_with_all_that_it_learned():
    model = model_of()
    for seed in range(3):
        train_one_step(model, batch_of(seed=seed))
    features = features_of()
    after = answers(model.add_task(Task(name="share")), features)
    # Running averages of the numbers among it, which no gradient moves.
    for task, expected in answers(model, features).items():
        np.testing.assert_array_equal(after[task], expected)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("share", {"like": "love"}, r"no task 'love'; expected one of \['click', 'like', 'buy'\]"),
        ("like", {}, r"expected a task beside \['click', .*; received 'like': give the new one"),
        ("share", {"sentence": ["share", "home"]}, r"'share': \['share', 'home'\]\}: give every"),
        ("share", {"sentence": ["buy"]}, r"a sentence of its own.*'share': \('buy',\)\}: tasks th"),
    ],
)
def test_refuses_to_add(task, options, message):
    with pytest.raises(ValueError, match=message):
        model_of().add_task(Task(name=task), **options)


def test_a_macro_graph_has_the_tasks_of_its_log(build):
    model = build("grec", bottom=MACRO)
    with pytest.raises(
        ValueError, match=r"one layer per task of its log; .* task 'share' in its sc"
    ):
        model.add_task(Task(name="share"))


def test_a_task_is_added_over_graph_states(build, dataset, edge_sets):
    model = build("grec", bottom=BOTTOM)
    randomize(model)
    grown = model.add_task(Task(name="share"))
    features, _, _ = first_batch(dataset(model))
    rows = {key: value for key, value in features.items() if key != "graph"}
    before, after = (
        answers(one, one.compute_node_states(edge_sets)(rows)) for one in (model, grown)
    )
    for task, expected in before.items():
        np.testing.assert_array_equal(after[task], expected)


# Two tasks at most: none, one, or two of them.
DEFINED = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1]], np.float32)


@pytest.mark.parametrize("options", [{}, {"shared_head": False}, {"sentence_inputs": ["tab"]}])
def test_tasks_that_are_undefined_need_not_be_evaluated(options):
    # Balance is that of the experts visited, which are fewer.
    weights = {"balance_weight": 0.0, "z_weight": 0.0}
    full, chosen = model_of(**options, **weights), model_of(**options, **weights, tasks_per_row=2)
    batch = batch_of(6, DEFINED * [[1.0], [2.0], [1.0], [1.0], [0.5], [3.0]])
    loss, gradients = gradients_of(full, batch)
    received, others = gradients_of(chosen, batch)
    assert received == pytest.approx(loss, rel=1e-5)
    for one, other, weight in zip(gradients, others, full.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=weight.name)
    assert max(np.abs(gradient).max() for gradient in gradients) > 1e-2
    for task, expected in answers(full, batch[0]).items():
        np.testing.assert_array_equal(answers(chosen, batch[0])[task], expected)


def test_a_row_with_more_tasks_than_are_evaluated_stops_training():
    model = model_of(tasks_per_row=1)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="a row has more tasks than tasks_per_row=1: raise it"
    ):
        model.compute_loss(batch_of(6, DEFINED), training=True)
    # Evaluation reads all of them.
    assert np.isfinite(model.compute_loss(batch_of(6, DEFINED)))


@pytest.mark.parametrize("present", [(1, 1, 1), (1, 1, 0), (0, 1, 0)])
def test_every_task_of_a_batch_counts_alike(present):
    tasks = (Task(name="click"), Task(name="like", weight=3.0), Task(name="buy"))
    # Click on all rows, like on one, buy on two.
    defined = np.stack([np.ones(12), np.arange(12) == 7, np.arange(12) < 2], axis=1) * present
    batch = batch_of(12, defined.astype(np.float32))
    features, labels, weights = batch
    model = model_of(tasks)
    expected, rates = 0.0, 0.0
    for task in tasks:
        rows = weights[task.name].numpy() > 0
        if rows.any():
            p, y = answers(model, features)[task.name][rows], labels[task.name].numpy()[rows]
            expected -= task.weight * np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
            rates += task.weight
    assert float(model.compute_loss(batch)) == pytest.approx(expected / rates, rel=1e-4)
    static = model_of(tasks, weighting="static")
    assert float(static.compute_loss(batch)) == pytest.approx(expected, rel=1e-4)


def test_a_word_of_the_row_steers_the_experts():
    # The sentence is read by the router alone, and the tab by the sentence alone.
    model = model_of(tokens=["item"], task_token="none", sentence_inputs=["tab"])
    features = {"item_id": tf.constant([3, 3, 3]), "tab": tf.constant([1, 2, 1])}
    features |= {"title": tf.zeros([3, 3], tf.int32), "cover": tf.zeros([3, 2])}
    click = answers(model, features)["click"]
    assert click[0] == click[2]
    assert abs(click[0] - click[1]) > 1e-3


def test_ids_of_the_row_that_are_unknown_are_zeros():
    model, features = model_of(tokens=["item"], sentence_inputs=["tab"]), features_of()
    far, below = (
        model.predict_all_tasks({**features, "tab": tf.fill([12], tab)}) for tab in (10**6, -4)
    )
    assert np.isfinite(far).all()
    np.testing.assert_array_equal(far, below)


WRONG = {
    "another length": (
        {"sentences": {"click": ["a"], "like": ["b", "c"], "buy": ["d"]}},
        r"of one length for each of the tasks \['click', 'like', 'buy'\]; .*'c'\].*: give every",
    ),
    "a task without": ({"sentences": {"click": ["a"]}}, r"received \{'click': \['a'\]\}: give"),
    "no words": (
        {"sentences": {"click": [], "like": [], "buy": []}},
        "the same number of w",
    ),
    "a task too many": (
        {"sentences": {"click": ["a"], "like": ["b"], "buy": ["c"], "share": ["d"]}},
        r"for each of the tasks \['click', 'like', 'buy'\]; received .*'share'",
    ),
    "one sentence for two": (
        {"sentences": {"click": ["a"], "like": ["b"], "buy": ["a"]}},
        r"a sentence of its own for each task; received .*'buy': \('a',\)\}: tasks that share one",
    ),
    "main words that are read alone": (
        {"sentences": TWO_WORDS, "routing": "task", "task_token": "none"},
        r"a sentence of its own for each task; received .*'buy': \('like', 'shop'\)",
    ),
    "no sentence": (
        {"task_token": "none", "routing": "token"},
        "read by tokens, routing or the head, or shared_head=False; received task_token='none' "
        "with routing='token': all tasks would have the same answer",
    ),
    "a word of no input": (
        {"sentence_inputs": ["country"]},
        r"among the categorical inputs \['item_id', 'tab'\]; received \['country'\]: name inputs",
    ),
    "a number as word": ({"sentence_inputs": ["price"]}, r"received \['price'\]: name inputs"),
    "task token": ({"task_token": "early"}, "'mixed', 'late' or 'none'; received 'early'"),
    "token": ({"tokens": ["task"]}, r"'graph'\]; received \['task'\]: the task's own is set by"),
    "routing": ({"routing": "word"}, "'task'\\]; received 'word': take 'task_sentence' unless"),
    "weighting": ({"weighting": "even"}, "'static' or 'uncertainty'; received 'even': take 'balan"),
    "too many tasks per row": (
        {"tasks_per_row": 4},
        "tasks_per_row from 1 to the 3 tasks; received 4: leave it out",
    ),
    "text": ({"text_inputs": ["tab"]}, r"received \['tab'\]: name a feature of kind text"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GRec(TASKS, INPUTS, **options)


def test_the_sentence_scales_and_shifts_the_head_s_hidden_layer():
    model = model_of(modulated_head=True)
    features = features_of()
    modulation = model.modulation.get_weights()[0]
    assert modulation.shape == (8, 2 * model.head.units[-1])
    model.modulation.set_weights([np.zeros_like(modulation)])
    tokens = model._trunk(features, training=False)
    sentences = tf.repeat(tf.constant([[[0], [1], [2]]]), 12, axis=0)
    hidden = model._hidden(tokens, sentences, training=False).numpy()
    model.modulation.set_weights([modulation])
    scale, shift = np.split(model.sentence.tables[0].numpy() @ modulation, 2, axis=-1)
    kernel, bias = model.outputs_of_tasks.get_weights()
    expected = ((1 + scale) * hidden + shift) @ kernel + bias
    received = np.stack(list(model(features).values()), axis=1)
    np.testing.assert_allclose(received, expected[..., 0], atol=1e-5)


def test_a_modulated_head_is_the_shared_one_to_begin_with():
    model = GRec(TASKS, INPUTS, dim=8, modulated_head=True)
    model.build_weights()
    assert not model.modulation.get_weights()[0].any()


def test_refuses_sentences_where_none_is_read():
    model = model_of(shared_head=False)
    with pytest.raises(
        ValueError, match="received shared_head=False, task_token='mixed': use pred"
    ):
        model.predict_sentences(features_of(), tf.zeros([12, 1], tf.int32))
    with pytest.raises(
        ValueError, match=r"no task 'share'; expected one of \['click', 'like', 'bu"
    ):
        model.predict_task(features_of(), "share")


@pytest.mark.parametrize("task_token", ["mixed", "late", "none"])
@pytest.mark.parametrize("routing", ROUTINGS)
def test_every_routing_and_token_trains(routing, task_token):
    read = task_token != "none" or routing not in ("token", "sentence")
    model = model_of(routing=routing, task_token=task_token, shared_head=read, jitter=0.1)
    before = [weight.numpy() for weight in model.trainable_weights]
    reported = train_one_step(model, batch_of())
    assert np.isfinite(list(reported.values())).all()
    still = [
        weight.name
        for weight, old in zip(model.trainable_weights, before, strict=True)
        if np.array_equal(weight.numpy(), old)
    ]
    assert still == []
    # Words that nothing reads have no table.
    assert any("sentence/table" in weight.name for weight in model.weights) == read


@pytest.mark.parametrize("options", [{"k": 4, "mixer_residual": True}, {"context_units": (6,)}])
def test_gradients_reach_every_weight(options):
    assert_gradients_reach_every_weight(model_of(**options), features_of(40))


def test_tokens_that_are_left_out_are_not_read():
    model, features = model_of(tokens=["context", "item"]), features_of()
    assert model.token_names == ("context", "item", "task")
    without = {key: features[key] for key in ("item_id", "tab", "price")}
    np.testing.assert_array_equal(
        model.predict_all_tasks(without), model.predict_all_tasks(features)
    )
    assert model_of().token_names == ("sequence", "context", "text", "item", "task")


@pytest.mark.parametrize("options", [{}, {"routing": "token"}, {"task_token": "late", "k": 2}])
def test_a_row_is_answered_alike_in_any_company(options):
    model, features = model_of(**options), features_of(17)
    every = model.predict_all_tasks(features).numpy()
    order = np.random.default_rng(4).permutation(17)
    permuted = {key: tf.gather(values, order) for key, values in features.items()}
    np.testing.assert_allclose(model.predict_all_tasks(permuted), every[order], atol=1e-6)
    for row in (0, 16):
        alone = {key: values[row : row + 1] for key, values in features.items()}
        np.testing.assert_allclose(model.predict_all_tasks(alone)[0], every[row], atol=1e-6)


def log_of(size, seed=5, defined=None):
    features, labels, weights = batch_of(size, defined, seed)
    arrays = (
        {name: values.numpy() for name, values in part.items()}
        for part in (features, labels, weights)
    )
    return EncodedLog(*arrays, None, None, True)


def test_fit_reports_the_routing():
    model = compiled(model_of())
    logs = model.fit(evaluation_dataset(log_of(12), batch_size=6), verbose=0).history
    assert {"moe_balance_loss", "moe_z_loss", "moe_smallest_expert_load"} < set(logs)
    assert "moe_dropped_share" not in logs
    # The penalties are weighted by 1e-4 each.
    assert logs["regularization_loss"][0] == pytest.approx(
        1e-4 * (logs["moe_balance_loss"][0] + logs["moe_z_loss"][0]), rel=1e-4
    )


def test_full_experts_let_tokens_pass():
    # A capacity of one visit for each of four experts, and 36 pairs of a row and a task.
    model = compiled(model_of(capacity_factor=1e-3))
    logs = model.fit(evaluation_dataset(log_of(12), batch_size=12), verbose=0).history
    # Three sentences visit three experts at most.
    assert 1 - 3 / 36 <= logs["moe_dropped_share"][0] <= 1 - 1 / 36
    assert np.isfinite(logs["total_loss"]).all()
    assert np.isfinite(model.predict_all_tasks(features_of())).all()


@pytest.mark.parametrize("balance_weight", [0.0, 1e-2])
def test_the_balance_loss_spreads_tokens_over_experts(balance_weight):
    model = model_of(
        inputs=(ITEM, TAB, PRICE),
        num_experts=8,
        routing="token",
        jitter=0.1,
        balance_weight=balance_weight,
    )
    # Nearly all tokens begin at one expert.
    bias = named(model)["moe/router/bias"]
    bias.assign([2.0, *[0.0] * 7])
    compiled(model, keras.optimizers.Adam(0.01))
    logs = model.fit(evaluation_dataset(log_of(256), batch_size=64), epochs=45, verbose=0).history
    loads = logs["moe_smallest_expert_load"]
    assert loads[0] < 0.01
    # Batches are small: of single epochs chance has its share.
    assert (np.mean(loads[-15:]) > 0.01) == (balance_weight > 0)


@pytest.mark.slow
def test_a_compiled_step_equals_a_plain_one():
    moved = []
    for jit_compile in (False, True):
        model = compiled(model_of(), keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        start = [weight.numpy() for weight in model.trainable_weights]
        batches = tf.data.Dataset.from_tensors(batch_of())
        history = model.fit(batches, verbose=0).history
        moved.append([history["total_loss"][0], *[w.numpy() for w in model.trainable_weights]])
    assert any(np.abs(one - old).max() > 1e-3 for one, old in zip(moved[0][1:], start, strict=True))
    for plain, jitted in zip(*moved, strict=True):
        np.testing.assert_allclose(jitted, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"routing": "token", "tasks_per_row": 2}])
def test_a_step_in_half_precision_is_finite(half_precision, options):
    model = model_of(**options)
    optimizer = keras.mixed_precision.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=128
    )
    before = [weight.numpy() for weight in model.trainable_weights]
    reported = train_one_step(model, batch_of(6, DEFINED), optimizer)
    assert np.isfinite(list(reported.values())).all()
    assert all(np.isfinite(weight.numpy()).all() for weight in model.trainable_weights)
    assert any(
        not np.array_equal(weight.numpy(), old)
        for weight, old in zip(model.trainable_weights, before, strict=True)
    )
    grown = model.add_task(Task(name="share"))
    for task, expected in answers(model, features_of()).items():
        np.testing.assert_array_equal(answers(grown, features_of())[task], expected)


@pytest.mark.parametrize("bottom", [MACRO, BOTTOM], ids=["macro", "mgnn"])
def test_graphs_are_a_token(build, dataset, bottom):
    model = build("grec", bottom=bottom)
    assert model.token_names == ("context", "item", "graph", "task")
    randomize(model)
    batch = first_batch(dataset(model))
    before = [weight.numpy() for weight in model.graph_token.weights]
    reported = train_one_step(model, batch)
    assert np.isfinite(list(reported.values())).all()
    for weight, old in zip(model.graph_token.weights, before, strict=True):
        assert np.abs(weight.numpy() - old).max() > 0
    without = build("grec", bottom=bottom, tokens=["context", "item"])
    assert without.token_names == ("context", "item", "task")


def test_a_macro_graph_may_be_all_that_is_read(build, dataset):
    model = build("grec", bottom=MACRO, tokens=["graph"])
    assert model.token_names == ("graph", "task")
    reported = train_one_step(model, first_batch(dataset(model)))
    assert np.isfinite(list(reported.values())).all()


def test_any_encoder_may_read_the_texts():
    encoder = keras.Sequential(
        [keras.layers.Embedding(7, 3), keras.layers.GlobalAveragePooling1D()]
    )
    model = model_of(text_encoder=encoder)
    assert_gradients_reach_every_weight(model, features_of(40))
    before = encoder.get_weights()[0]
    train_one_step(model, batch_of())
    assert np.abs(encoder.get_weights()[0] - before).max() > 1e-4


def test_vectors_are_read_as_texts():
    model, features = model_of(inputs=(ITEM, COVER)), features_of()
    assert model.token_names == ("text", "item", "task")
    every = model.predict_all_tasks(features)
    moved = model.predict_all_tasks({**features, "cover": features["cover"] + 1})
    assert np.abs(every - moved).max() > 1e-3


FOR_TASK = {
    "defaults": {},
    "two experts": {"k": 2},
    "late": {"task_token": "late"},
    "none": {"task_token": "none", "sentences": TWO_WORDS},
    "by main task": {"routing": "task", "sentences": TWO_WORDS},
    "own heads": {"shared_head": False, "k": 2},
}


@pytest.mark.parametrize("options", FOR_TASK.values(), ids=FOR_TASK)
def test_the_model_of_one_task_answers_alike(options):
    model, features = model_of(**options), features_of()
    every = answers(model, features)
    for task in model.task_names:
        received = model.for_task(task).probabilities(features)
        assert list(received) == [task]
        np.testing.assert_allclose(received[task], every[task], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "task", "message"),
    [
        ({}, "share", r"no task 'share'; expected one of \['click', 'like', 'buy'\]: add_task mak"),
        ({"routing": "token"}, "like", "a task always has the same experts; received 'token': us"),
        ({"sentence_inputs": ["tab"]}, "like", r"received one with sentence_inputs=\['tab'\]: exp"),
    ],
)
def test_refuses_the_model_of_one_task(options, task, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options).for_task(task)


TITLES = ["", "日本語 の 映画", "Фильм про войну", "long " * 1000, None, "a film", "film two", ""]
SCHEMA = Schema(
    tasks=[Task(name="click")],
    features=[
        Feature(name="seen", kind="sequence", vocabulary="item_id", max_length=500),
        Feature(name="title", kind="text", max_length=8),
    ],
)


def log_rows(titles, lengths):
    size = len(titles)
    return pa.table(
        {
            "user_id": [f"u{row % 3}" for row in range(size)],
            "item_id": [row % 4 for row in range(size)],
            "seen": [[number % 4 for number in range(length)] for length in lengths],
            "title": pa.array(titles, pa.string()),
            "click": [row % 2 for row in range(size)],
        }
    )


@pytest.fixture(scope="module")
def encoder():
    return FeatureEncoder.fit(TrainingLog(log_rows(TITLES, [0, 500, 3, 700, 1, 2, 0, 9]), SCHEMA))


@pytest.fixture(scope="module")
def reader(encoder):
    keras.utils.set_random_seed(6)
    model = build_model("grec", SCHEMA, encoder, {"embedding_dim": 4, "dim": 8, "jitter": 0.0})
    model.build_weights()
    return model


def encoded(encoder, titles, lengths):
    return as_tensors(encoder.encode(HeldOutLog(log_rows(titles, lengths), SCHEMA)).features)


def test_histories_and_texts_of_any_length(encoder, reader):
    titles = [*TITLES, "нет 無 nowhere", "film " + "unseen " * 50]
    features = encoded(encoder, titles, [0, 500, 499, 501, 1, 0, 0, 2000, 0, 3])
    assert features["seen"].shape == (10, 500)
    every = reader.predict_all_tasks(features)
    assert np.isfinite(every).all()
    assert np.ptp(every) > 1e-6
    labels, weights = {"click": tf.ones([10])}, {"click": tf.ones([10])}
    loss, gradients = gradients_of(reader, (features, labels, weights))
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_empty_histories_and_texts_of_unknown_words_alone_are_read_alike(encoder, reader):
    titles = ["", None, "нет 無 nowhere", "a film", "日本語"]
    features = encoded(encoder, titles, [0] * 5)
    same = {key: tf.repeat(features[key][:1], 5, axis=0) for key in ("user_id", "item_id")}
    every = reader.predict_all_tasks({**features, **same}).numpy()[:, 0]
    np.testing.assert_array_equal(every[1:3], every[:1].repeat(2))
    assert np.abs(every[3:] - every[0]).min() > 1e-6


def test_the_last_of_a_long_history_are_read(encoder, reader):
    short, long = (
        encoded(encoder, ["a film"] * 2, [500, 500]),
        encoded(encoder, ["a film"] * 2, [500, 504]),
    )
    # Items repeat every four: the 500 last of 504 are those of 500.
    np.testing.assert_array_equal(short["seen"], long["seen"])
