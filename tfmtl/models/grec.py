"""GRec: one trunk and one head for any number of tasks, steered by task sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.chosen_experts import ChosenExperts
from tfmtl.layers.expert_dispatch import Dispatch
from tfmtl.layers.mlp import MLP
from tfmtl.layers.parallel_transformer_block import ParallelTransformerBlock
from tfmtl.layers.recording import Recording
from tfmtl.layers.row_tokens import TOKENS, RowTokens, inputs_of_tokens
from tfmtl.layers.task_sentence import TaskSentence
from tfmtl.layers.task_sentence_moe import TaskSentenceMoE
from tfmtl.models.grec_for_task import GRecForTask
from tfmtl.models.multi_task_model import Batch, MultiTaskModel, Weighting
from tfmtl.objectives.balanced_loss import balanced_loss
from tfmtl.objectives.build_weighting import WEIGHTINGS
from tfmtl.schema import Task

TaskToken = Literal["mixed", "late", "none"]
_GRAPH = "graph"
# What training adds to the features of a batch: the tasks that each row is trained on.
_CHOSEN = "chosen_tasks"
# Pairs of a row and a task are padded to a multiple of the widest registers' 16 floats.
_ALIGNMENT = 16
_NOT_ARGUMENTS = ("self", "kwargs", "__class__")
_BY_SENTENCE = ("task_sentence", "gated_sentence", "task")


class GRec(MultiTaskModel):
    """Generalist recommender.

        X = [ x_sequence, x_context, x_text, x_item, x_graph ]    (those tokens that there are)
        s = [ Emb_0(main task) ‖ Emb_1(auxiliary) ‖ ... ]          (task sentence)
        X <- Block([ X, s ])                                      (token mixing, one head)
        X <- X + MoE(RMSNorm(X); s)                               (k of E experts, by the sentence)
        o = w^T LReLU(W flatten(X) + b)                           (one head for all tasks)

    All but s is the same for every task: another task costs one row per table of the sentence in
    which it is a new word. The trunk is evaluated once per row, and the tasks are fanned out from
    it, in training too: a row is trained on once for each of its main tasks.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        dim: Width D of tokens; even.
        tokens: Which of `sequence`, `context`, `text`, `item` and `graph` are read; all of those
            that have inputs when not given. Inputs of the others are ignored.
        text_inputs: Inputs read as texts; those of kind text and the vectors when not given.
        text_encoder: Keras layer that encodes texts, see `RowTokens`; `add_task` makes another
            from its config.
        sentences: Task to its words, the main one first, such as `{"click_home": ["click",
            "home"]}`; the task's name alone when not given. All have the same length.
        sentence_inputs: Categorical inputs, such as a country, whose ids are further words.
        task_token: Whether s joins the tokens ahead of their mixing (`mixed`) or after it (`late`,
            so that mixing is done once per row), or has no token (`none`) and acts through experts
            and head alone.
        context_units: Hidden widths of the context token, see `RowTokens`.
        mixer_residual: Whether tokens are added to what their mixing makes of them; they are not in
            the release.
        num_blocks: Blocks of the sequence encoder.
        num_heads: Heads of the sequence and text encoders' blocks.
        num_experts: Number of experts E.
        routing: What decides on the experts, see `TaskSentenceMoE`.
        k: Experts that work on each token; E makes them dense.
        jitter: Noise on the router in training.
        capacity_factor: Capacity of an expert; None drops nothing.
        expert_hidden: Width of the experts' hidden layer; D when not given.
        head_units: Hidden widths of the head; half of its input when not given.
        shared_head: Whether all tasks share the head's output vector. Where tokens, routing and
            head do not read the sentence, they need one each.
        modulated_head: Whether the sentence scales and shifts the head's hidden layer, h <- (1 +
            W_s s) h + W_t s, so that each task weighs it in its own way at no cost per task.
        tasks_per_row: Most tasks that are defined on a row, where it is fewer than there are;
            training evaluates only so many. A row with fewer is filled up with others, which count
            in the experts' load alone. All when not given.
        dropout: Share of activations dropped in training.
        l2_embedding: Penalty on the batch's embeddings.
        balance_weight: Weight of the experts' load balance loss.
        z_weight: Weight of the loss on the router's logits.
        dispatch: See `RoutedExperts`.
        weighting: `balanced` (every task of a batch counts alike), or what other models take, see
            `build_weighting`.
        **kwargs: Passed to `MultiTaskModel`, such as `bottom`, and to `keras.Model`.

    Raises:
        ValueError: If a token, text or sentence input is unknown, sentences are not one per task
            and of one length, tasks could not be told apart, or an argument is one that a layer
            refuses.

    References:
        Efficient Multi-Task Learning via Generalist Recommender (CIKM 2023, arXiv 2504.05318), and
        its released code.

    Deviations:
        The head has a bias. The output is a probability per task, where the release predicts the
        next item. It routes by token; the sentence is the default here. Inputs that are absent have
        no token. The graph token, `task_token`, `sentence_inputs`, `context_units`,
        `mixer_residual`, `shared_head` and `modulated_head` are additions.

    Example:
        >>> specs = [InputSpec("item_id", "categorical", "item", 9, 1, "item_id"),
        ...          InputSpec("tab", "categorical", "context", 4, 1)]
        >>> model = GRec([Task(name="click"), Task(name="like")], specs, dim=8)
        >>> row = {"item_id": tf.constant([1, 2, 3]), "tab": tf.constant([1, 1, 2])}
        >>> model(row)["like"].shape, model.predict_all_tasks(row).shape
        (TensorShape([3]), TensorShape([3, 2]))
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        dim: int = 64,
        tokens: Sequence[str] | None = None,
        text_inputs: Sequence[str] | None = None,
        text_encoder: keras.layers.Layer | None = None,
        sentences: Mapping[str, Sequence[str]] | None = None,
        sentence_inputs: Sequence[str] = (),
        task_token: TaskToken = "mixed",
        context_units: Sequence[int] = (),
        mixer_residual: bool = False,
        num_blocks: int = 2,
        num_heads: int = 4,
        num_experts: int = 8,
        routing: str = "task_sentence",
        k: int = 1,
        jitter: float = 0.1,
        capacity_factor: float | None = None,
        expert_hidden: int | None = None,
        head_units: Sequence[int] | None = None,
        shared_head: bool = True,
        modulated_head: bool = False,
        tasks_per_row: int | None = None,
        dropout: float = 0.0,
        l2_embedding: float = 0.0,
        balance_weight: float = 1e-4,
        z_weight: float = 1e-4,
        dispatch: Dispatch = "auto",
        weighting: Weighting = "balanced",
        **kwargs: Any,
    ):
        arguments = {name: value for name, value in locals().items() if name not in _NOT_ARGUMENTS}
        balanced = weighting in ("balanced", {"name": "balanced"})
        if isinstance(weighting, str) and not balanced and weighting not in WEIGHTINGS:
            *names, last = ["balanced", *WEIGHTINGS]
            raise ValueError(
                f"expected weighting {', '.join(map(repr, names))} or {last!r}; received "
                f"{weighting!r}: take 'balanced' unless you compare them"
            )
        parts = inputs_of_tokens(inputs, text_inputs)
        unknown = sorted(set(tokens or ()) - {*TOKENS, _GRAPH})
        if unknown:
            raise ValueError(
                f"expected tokens of {[*TOKENS, _GRAPH]}; received {unknown}: the task's own is "
                "set by task_token"
            )
        if tokens is not None:
            parts = {token: own for token, own in parts.items() if token in tokens}
        embedded, texts = _inputs_read(inputs, parts)
        super().__init__(
            tasks,
            embedded,
            embedding_dim=embedding_dim,
            l2_embedding=l2_embedding,
            weighting="static" if balanced else weighting,
            **kwargs,
        )
        # In a partial, whose arguments Keras does not track.
        self._rebuilt = partial(GRec, **arguments, **kwargs)
        self.balanced = balanced
        self.task_token: TaskToken = task_token
        self.shared_head = bool(shared_head)
        self.tasks_per_row = _checked_tasks_per_row(tasks_per_row, len(self.tasks))
        self.sentence_inputs = tuple(sentence_inputs)
        self.vocabularies, self._sentences = _numbered_sentences(self.task_names, sentences)
        self._reads_sentence = (
            task_token != "none" or routing in _BY_SENTENCE or bool(modulated_head)
        )
        if self.shared_head and not self._reads_sentence:
            raise ValueError(
                "expected the sentence to be read by tokens, routing or the head, or "
                f"shared_head=False; received task_token={task_token!r} with routing={routing!r}: "
                "all tasks would have the same answer"
            )
        if task_token not in ("mixed", "late", "none"):
            raise ValueError(
                f"expected task_token 'mixed', 'late' or 'none'; received {task_token!r}"
            )
        # Without a token of its own the sentence may be read by its main word alone.
        read = 1 if task_token == "none" and routing == "task" and not modulated_head else None
        if self.shared_head and len({own[:read] for own in self._sentences}) < len(self.tasks):
            raise ValueError(
                f"expected a sentence of its own for each task; received {self._words()}: tasks "
                "that share one would have the same answer"
            )
        self._text_specs = texts
        self._sentence_specs = _checked_sentence_inputs(inputs, self.sentence_inputs)
        self.sentence = TaskSentence(
            [
                *(len(words) for words in self.vocabularies),
                *(spec.vocabulary_size for spec in self._sentence_specs),
            ],
            dim,
            name="sentence",
        )
        has_bottom = self.graph_bottom is not None or self.macro_bottom is not None
        self.graph_token = None
        if has_bottom and (tokens is None or _GRAPH in tokens):
            self.graph_token = keras.layers.Dense(dim, name="graph_token")
        self.row_tokens = None
        if any(parts.values()) or self.graph_token is None:
            self.row_tokens = RowTokens(
                self.embedding,
                parts,
                dim=dim,
                num_blocks=num_blocks,
                num_heads=num_heads,
                text_encoder=text_encoder,
                context_units=context_units,
                dropout=dropout,
                name="tokens",
            )
        self.mixer = ParallelTransformerBlock(
            1, residual=mixer_residual, dropout=dropout, name="mixer"
        )
        self.moe = TaskSentenceMoE(
            num_experts,
            routing=routing,
            k=k,
            jitter=jitter,
            capacity_factor=capacity_factor,
            hidden=expert_hidden,
            dropout=dropout,
            balance_weight=balance_weight,
            z_weight=z_weight,
            dispatch=dispatch,
            name="moe",
        )
        self.token_names = (
            *(() if self.row_tokens is None else self.row_tokens.names),
            *(() if self.graph_token is None else (_GRAPH,)),
            *(() if task_token == "none" else ("task",)),
        )
        width = dim * len(self.token_names)
        self.head = MLP(
            [width // 2] if head_units is None else head_units, dropout=dropout, name="head"
        )
        self.modulation = None
        if modulated_head:
            hidden = self.head.units[-1] if self.head.units else width
            # Zeros at first: all tasks begin with the head that they share.
            self.modulation = keras.layers.Dense(
                2 * hidden, use_bias=False, kernel_initializer="zeros", name="modulation"
            )
        # Half precision has too few digits for a log loss near probability 0 or 1.
        self.outputs_of_tasks = keras.layers.Dense(
            1 if self.shared_head else len(self.tasks), dtype="float32", name="outputs"
        )

    def _example_row(self) -> dict[str, Any]:
        row = super()._example_row()
        for spec in (*self._text_specs, *self._sentence_specs):
            shape = [1, spec.width] if spec.kind == "list" else [1]
            row.setdefault(spec.name, tf.zeros(shape, tf.int32))
        return row

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        return self._logits(features, training)

    def probabilities(self, features: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Probabilities `float32 [B]` per task; none depends on what other tasks there are."""
        logits = self._logits(features, training=False, aligned=True)
        return {name: tf.sigmoid(logits[name]) for name in self.task_names}

    def _logits(
        self, features: Mapping[str, Any], training: bool | None, aligned: bool = False
    ) -> dict[str, tf.Tensor]:
        tokens = self._trunk(features, training)
        chosen = features.get(_CHOSEN)
        if not self._reads_sentence:
            logits = self.outputs_of_tasks(self._hidden(tokens, None, training))
        elif chosen is None:
            every = tf.range(len(self.tasks))
            logits = self._fan_out(tokens, every, features, training, aligned)
        else:
            own = self._fan_out(tokens, chosen, features, training)
            # Tasks that are undefined on a row count nothing there, whatever their logit.
            logits = tf.einsum("bm,bmt->bt", own, tf.one_hot(chosen, len(self.tasks)))
        return dict(zip(self.task_names, tf.unstack(logits, axis=1), strict=True))

    def completed_batch(self, inputs: Batch, training: bool) -> Batch:
        """A batch with the tasks that each row is trained on."""
        features, labels, sample_weights = inputs
        if training and self.tasks_per_row is not None:
            weights = tf.stack([sample_weights[name] for name in self.task_names], axis=1)
            defined = tf.cast(weights > 0, tf.float32)
            tf.debugging.assert_less_equal(
                tf.reduce_max(tf.reduce_sum(defined, axis=1)),
                float(self.tasks_per_row),
                f"a row has more tasks than tasks_per_row={self.tasks_per_row}: raise it, or no "
                "task beyond would be trained on that row",
            )
            chosen = tf.math.top_k(defined, self.tasks_per_row).indices
            inputs = {**features, _CHOSEN: chosen}, labels, sample_weights
        return inputs

    def weighted_loss(
        self, losses: Mapping[str, tf.Tensor], loss_rows: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """One scalar of the task losses, by the model's weighting."""
        if not self.balanced:
            return super().weighted_loss(losses, loss_rows)
        return balanced_loss(losses, loss_rows, {task.name: task.weight for task in self.tasks})

    def predict_all_tasks(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Probabilities of all tasks, from one evaluation of the trunk.

        Args:
            features: Encoded features of B rows.

        Returns:
            `float32 [B, T]`, tasks in the order of `task_names`.
        """
        return tf.stack(list(self.probabilities(features).values()), axis=1)

    def predict_task(self, features: Mapping[str, Any], task: str) -> tf.Tensor:
        """Probabilities `float32 [B]` of one task, without evaluating the others.

        Args:
            features: Encoded features of B rows.
            task: Name of the task.

        Raises:
            ValueError: If there is no such task.
        """
        number = self._number_of(task)
        tokens = self._trunk(features, training=False)
        if not self._reads_sentence:
            logits = self.outputs_of_tasks(self._hidden(tokens, None, False))[:, number]
        else:
            logits = self._fan_out(tokens, tf.constant([number]), features, False, True)[:, 0]
        return tf.sigmoid(logits)

    def predict_sentences(self, features: Mapping[str, Any], sentences: tf.Tensor) -> tf.Tensor:
        """Probabilities of rows that bring their own task sentences.

        Args:
            features: Encoded features of B rows.
            sentences: Numbers of the words, `int [B, J]`: those of `vocabularies`, then ids of the
                `sentence_inputs`. A word that the model does not know is a vector of zeros, so that
                an unknown task gets what all tasks share.

        Returns:
            `float32 [B]`.

        Raises:
            ValueError: If each task has its own head, or no sentence is read.
        """
        if not (self.shared_head and self._reads_sentence):
            raise ValueError(
                "expected a model whose tasks share the head and read the sentence; received "
                f"shared_head={self.shared_head}, task_token={self.task_token!r}: use predict_task"
            )
        tokens = self._trunk(features, training=False)
        hidden = self._hidden(tokens, sentences[:, tf.newaxis], training=False, aligned=True)
        logits = self.outputs_of_tasks(hidden)
        return tf.sigmoid(logits[:, 0, 0])

    def for_task(self, task: str) -> GRecForTask:
        """The model of one task, with the task's experts alone.

        Args:
            task: Name of the task.

        Returns:
            What `export_model` takes in place of a model.

        Raises:
            ValueError: If there is no such task, or its experts depend on the row.
        """
        number = self._number_of(task)
        if self.sentence_inputs:
            raise ValueError(
                "expected a model whose experts depend on the task alone; received one with "
                f"sentence_inputs={list(self.sentence_inputs)}: export the model of all tasks"
            )
        words = tf.constant([self._sentences[number]])
        sentence = self.sentence(words)
        state = self.sentence.embed_main(words) if self.moe.routing == "task" else sentence
        return GRecForTask(self, task, sentence, self.moe.choose(state))

    def task_logits(
        self, features: Mapping[str, Any], task: str, sentence: tf.Tensor, experts: ChosenExperts
    ) -> tf.Tensor:
        """Logits `float32 [B]` of one task at inference, by experts chosen ahead.

        Args:
            features: Encoded features of B rows.
            task: Name of the task.
            sentence: Its sentence, `float [1, D]`.
            experts: Its experts.
        """
        tokens = self._trunk(features, training=False)
        if self.task_token != "none":
            own = tf.repeat(tf.cast(sentence, tokens.dtype), tf.shape(tokens)[0], axis=0)
            tokens = tf.concat([tokens, own[:, tf.newaxis]], axis=1)
        if self.task_token == "mixed":
            tokens = self.mixer(tokens)
        hidden = self._flat(self.moe.call_with(tokens, experts), training=False)
        outputs = self.outputs_of_tasks(self._modulated(hidden, sentence))
        return outputs[:, 0 if self.shared_head else self._number_of(task)]

    def add_task(
        self, task: Task, *, sentence: Sequence[str] | None = None, like: str | None = None
    ) -> GRec:
        """A model with one more task and the weights of this one.

        The other tasks' answers are those of before until the new model is trained.

        Args:
            task: The task, which comes last.
            sentence: Its words; its name alone when not given.
            like: Task whose words' vectors, and output vector if tasks have their own, the new ones
                start from; fresh ones when not given.

        Returns:
            A new uncompiled model with all its weights; this one is unchanged.

        Raises:
            ValueError: If the task exists, `like` does not, the sentence has another length than
                the others or is that of another task, or the model stands on a macro graph, which
                has the tasks of its log.
        """
        if task.name in self.task_names:
            raise ValueError(
                f"expected a task beside {list(self.task_names)}; received {task.name!r}: give the "
                "new one another name"
            )
        if self.macro_bottom is not None:
            raise ValueError(
                "a macro graph has one layer per task of its log; received a model on one: build "
                f"the macro graph with task {task.name!r} in its schema and train on it"
            )
        if like is not None:
            self._number_of(like)
        by_name = {name: list(words) for name, words in self._words().items()}
        by_name[task.name] = [task.name] if sentence is None else list(sentence)
        encoder: Any = self._rebuilt.keywords["text_encoder"] if self._text_specs else None
        # One that both models read would be trained with either.
        copied = None if encoder is None else type(encoder).from_config(encoder.get_config())
        grown = self._rebuilt(tasks=(*self.tasks, task), sentences=by_name, text_encoder=copied)
        for model in (self, grown):
            model.build_weights()
        if copied is not None:
            copied.set_weights(encoder.get_weights())
        old = self._weights_by_path()
        for path, weight in grown._weights_by_path().items():
            value = weight.numpy()
            value[tuple(slice(size) for size in old[path].shape)] = old[path].numpy()
            weight.assign(value)
        if like is not None:
            grown._copy_words(like, task.name)
        return grown

    def _copy_words(self, source: str, target: str) -> None:
        if not self.shared_head:
            for weight in self.outputs_of_tasks.weights:
                value = weight.numpy()
                value[..., self._number_of(target)] = value[..., self._number_of(source)]
                weight.assign(value)
        tables = self.sentence.tables if self._reads_sentence else []
        old, new = (self._sentences[self._number_of(name)] for name in (source, target))
        known = [set(column) for column in zip(*self._sentences[:-1], strict=True)]
        for table, before, after, words in zip(tables, old, new, known, strict=False):
            if after not in words:
                table.scatter_nd_update([[after]], [table[before]])

    def _weights_by_path(self) -> dict[str, tf.Variable]:
        encoder = self._rebuilt.keywords["text_encoder"]
        # Named by whoever made it.
        apart = () if encoder is None else [id(weight) for weight in encoder.weights]
        # The means that the model reports are scalars, as no weight is.
        weights = [w for w in self.weights if w.shape.rank and id(w) not in apart]
        return {weight.name.removeprefix(f"{self.name}/"): weight for weight in weights}

    def _words(self) -> dict[str, tuple[str, ...]]:
        return {
            name: tuple(words[number] for words, number in zip(self.vocabularies, own, strict=True))
            for name, own in zip(self.task_names, self._sentences, strict=True)
        }

    def _number_of(self, task: str) -> int:
        if task not in self.task_names:
            raise ValueError(
                f"no task {task!r}; expected one of {list(self.task_names)}: add_task makes a "
                "model that has it"
            )
        return self.task_names.index(task)

    def _trunk(self, features: Mapping[str, Any], training: bool | None) -> tf.Tensor:
        """What tasks share: tokens `[B, n, D]`, mixed where the sentence is not part of that."""
        parts = []
        if self.row_tokens is not None:
            parts.append(self.row_tokens(features, training=training))
        if self.graph_token is not None:
            bottom = tf.concat(self.bottom_input(features), axis=-1)
            parts.append(self.graph_token(bottom)[:, tf.newaxis])
        tokens = tf.concat(parts, axis=1)
        Recording.show_shared(tokens)
        return tokens if self.task_token == "mixed" else self.mixer(tokens, training=training)

    def _fan_out(
        self,
        tokens: tf.Tensor,
        tasks: tf.Tensor,
        features: Mapping[str, Any],
        training: bool | None,
        aligned: bool = False,
    ) -> tf.Tensor:
        """Logits `[B, M]` of M tasks per row, `tasks` being `[B, M]`, or `[M]` for all rows."""
        sentences = tf.gather(tf.constant(self._sentences, tf.int32), tasks)
        rows = tf.shape(tokens)[0]
        if tasks.shape.rank == 1:
            sentences = tf.repeat(sentences[tf.newaxis], rows, axis=0)
        number = sentences.shape[1]
        for name in self.sentence_inputs:
            words = tf.cast(features[name], tf.int32)[:, tf.newaxis, tf.newaxis]
            sentences = tf.concat([sentences, tf.repeat(words, number, axis=1)], axis=-1)
        outputs = self.outputs_of_tasks(self._hidden(tokens, sentences, training, aligned))
        if self.shared_head:
            return outputs[..., 0]
        own = tf.one_hot(tasks, len(self.tasks))
        return tf.einsum("bmt,bmt->bm", outputs, tf.broadcast_to(own, tf.shape(outputs)))

    def _hidden(
        self,
        tokens: tf.Tensor,
        sentences: tf.Tensor | None,
        training: bool | None,
        aligned: bool = False,
    ) -> tf.Tensor:
        """The head's hidden layer: `[B, M, H]` for sentences `[B, M, J]`, `[B, H]` for none."""
        if sentences is None:
            # Routings that do not read the sentence take its place in the call.
            unread = tf.zeros([tf.shape(tokens)[0], self.sentence.dim], tokens.dtype)
            return self._decode(tokens, unread, training)
        number = sentences.shape[1]
        words = tf.reshape(sentences, [-1, sentences.shape[2]])
        tokens = tf.repeat(tokens, number, axis=0)
        pairs = tf.shape(words)[0]
        if aligned:
            # What is left over when values are worked on in registers is rounded otherwise, so
            # that answers would depend on how many tasks there are.
            surplus = -pairs % _ALIGNMENT
            words = tf.pad(words, [[0, surplus], [0, 0]])
            tokens = tf.pad(tokens, [[0, surplus], [0, 0], [0, 0]])
        sentence = tf.cast(self.sentence(words), tokens.dtype)
        state = self.sentence.embed_main(words) if self.moe.routing == "task" else sentence
        if self.task_token != "none":
            tokens = tf.concat([tokens, sentence[:, tf.newaxis]], axis=1)
        hidden = self._decode(tokens, tf.cast(state, tokens.dtype), training)
        hidden = self._modulated(hidden, sentence)
        return tf.reshape(hidden[:pairs], [-1, number, hidden.shape[-1]])

    def _decode(self, tokens: tf.Tensor, state: tf.Tensor, training: bool | None) -> tf.Tensor:
        if self.task_token == "mixed":
            tokens = self.mixer(tokens, training=training)
        tokens = self.moe((tokens, state), training=training)
        return self._flat(tokens, training)

    def _modulated(self, hidden: tf.Tensor, sentence: tf.Tensor) -> tf.Tensor:
        if self.modulation is None:
            return hidden
        scale, shift = tf.split(self.modulation(sentence), 2, axis=-1)
        return (1 + tf.cast(scale, hidden.dtype)) * hidden + tf.cast(shift, hidden.dtype)

    def _flat(self, tokens: tf.Tensor, training: bool | None) -> tf.Tensor:
        width = tokens.shape[1] * tokens.shape[2]
        return self.head(tf.reshape(tokens, [-1, width]), training=training)


def _inputs_read(
    inputs: Sequence[InputSpec], parts: Mapping[str, Sequence[InputSpec]]
) -> tuple[list[InputSpec], tuple[InputSpec, ...]]:
    """Inputs that the model's table embeds, and texts, which have encoders of their own."""
    texts = tuple(spec for spec in parts.get("text", ()) if not spec.vector)
    read = {spec.name for own in parts.values() for spec in own} - {spec.name for spec in texts}
    return [spec for spec in inputs if spec.name in read], texts


def _checked_sentence_inputs(
    inputs: Sequence[InputSpec], names: Sequence[str]
) -> tuple[InputSpec, ...]:
    known = {spec.name: spec for spec in inputs if spec.kind == "categorical"}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(
            f"expected sentence_inputs among the categorical inputs {list(known)}; received "
            f"{unknown}: name inputs such as a country"
        )
    return tuple(known[name] for name in names)


def _checked_tasks_per_row(tasks_per_row: int | None, tasks: int) -> int | None:
    if tasks_per_row is None:
        return None
    if not 1 <= tasks_per_row <= tasks:
        raise ValueError(
            f"expected tasks_per_row from 1 to the {tasks} tasks; received {tasks_per_row}: leave "
            "it out to train every row on all tasks"
        )
    return None if tasks_per_row == tasks else int(tasks_per_row)


def _numbered_sentences(
    tasks: Sequence[str], sentences: Mapping[str, Sequence[str]] | None
) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[int, ...], ...]]:
    """Words of each position in the order of their first use, and each task's by number."""
    words = {name: [name] for name in tasks}
    if sentences is not None:
        words = {name: list(own) for name, own in sentences.items()}
    if (
        set(words) != set(tasks)
        or len({len(own) for own in words.values()}) > 1
        or not all(words.values())
    ):
        raise ValueError(
            f"expected one sentence of one length for each of the tasks {list(tasks)}; received "
            f"{words}: give every task the same number of words"
        )
    in_order = [words[name] for name in tasks]
    vocabularies = tuple(tuple(dict.fromkeys(column)) for column in zip(*in_order, strict=True))
    numbers = tuple(
        tuple(vocabulary.index(word) for vocabulary, word in zip(vocabularies, own, strict=True))
        for own in in_order
    )
    return vocabularies, numbers
