"""A simulated shop: power-law exposure, latent tastes, and a chain of behaviours."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa

from tfmtl.data.interaction_log import InteractionLog
from tfmtl.data.splits import split_by_time
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.schema import Feature, Schema, Task

NAME = "simulator"
LICENCE = "Simulated; no restrictions."

_WORDS = {
    "kitchen": "copper kettle whisk skillet apron ladle mortar teapot grater ramekin",
    "garden": "trowel seedling hedge watering trellis compost pruner fern sundial planter",
    "cycling": "saddle pedal gravel helmet sprocket pannier handlebar spoke tandem bidon",
    "music": "guitar vinyl amplifier violin metronome chorus drum harmonica ukulele reed",
    "books": "atlas novel almanac memoir folio paperback anthology sonnet thriller diary",
    "camping": "lantern tent hammock canteen compass tarpaulin stove rucksack flint cot",
    "painting": "easel palette canvas pigment watercolour charcoal varnish gouache pastel brush",
    "sewing": "thimble velvet bobbin linen needle corduroy zipper tweed quilt ribbon",
    "fishing": "reel lure tackle wader trout spinner angler bait creel float",
    "astronomy": "telescope eyepiece nebula comet tripod planisphere lunar mirror orbit quasar",
    "coffee": "espresso grinder roast portafilter arabica filter tamper crema mocha carafe",
    "puzzles": "jigsaw riddle maze domino cipher tangram crossword sudoku chess labyrinth",
}
_TOPICS = tuple(_WORDS)
_TOPIC_WORDS = np.array([words.split() for words in _WORDS.values()])
_ADJECTIVES = np.array(
    ["small", "classic", "bright", "folding", "vintage", "light", "sturdy", "blue"]
)
_NUM_AGE_GROUPS = 6
_NUM_REGIONS = 8
_NUM_POSITIONS = 10
_FIRST_TIME = 1_700_000_000

SCHEMA = Schema(
    user="user_id",
    item="item_id",
    time="time",
    title="title",
    tasks=(
        Task(name="click", order=0),
        Task(name="like", order=1, parent="click"),
        Task(name="purchase", order=2, parent="like"),
    ),
    features=(
        Feature(name="age_group", side="user"),
        Feature(name="region", side="user"),
        Feature(name="category", side="item"),
        Feature(name="price", kind="numeric", side="item", transform="log"),
        Feature(name="title_words", kind="text", side="item", column="title"),
        Feature(name="position"),
    ),
)


class BehaviorSimulator:
    """Draws a log in which who did what follows from tastes that no feature fully tells.

    User `u` has a mixture over twelve topics and a latent vector x_u; item `i` has one topic, a
    latent vector y_i and an appeal per behaviour. For behaviour `t`

        P(t | u, i, position) = sigmoid(a_t + topics_u[topic_i] + <x_u, M_t y_i> + appeal_it
                                        + leniency_ut + slot_t[position])

    with a_t set so that the behaviour has its target rate, a rotation M_t that makes behaviours
    related but not equal, and a position effect for clicks only. `like` is drawn where there is a
    click and `purchase` where there is a like; elsewhere the label is missing.

    Users and items appear with power-law frequency, items mostly from topics the user favours. The
    age group, region, category and title words tell about the topics with noise; x_u and y_i show
    only in behaviour. Hence a model that learns ids, or aggregates neighbours in the user-item
    graph, can rank better than any model of the features and of popularity alone.

    Args:
        num_users: Users, with ids from 1.
        num_items: Items, with ids from 1.
        num_rows: Exposures to draw.
        exponent: A user or item of rank r is exposed in proportion to (r + 10)^-exponent.
        click_rate: Share of exposures that are clicked.
        like_rate: Share of clicks that are liked.
        purchase_rate: Share of likes that are bought.
        seed: Seed of everything; equal arguments give equal logs.

    Raises:
        DatasetError: If a number is below 1, a rate is not in (0, 1) or `exponent` is negative.

    Example:
        >>> simulator = BehaviorSimulator(num_users=100, num_items=60, num_rows=5000)
        >>> log = simulator.log()
        >>> bool(abs(log.labels("click").mean() - 0.25) < 0.03)
        True
    """

    def __init__(
        self,
        *,
        num_users: int = 2_000,
        num_items: int = 1_000,
        num_rows: int = 100_000,
        exponent: float = 0.8,
        click_rate: float = 0.25,
        like_rate: float = 0.3,
        purchase_rate: float = 0.3,
        seed: int = 0,
    ) -> None:
        for name, size in (("users", num_users), ("items", num_items), ("rows", num_rows)):
            if size < 1:
                raise DatasetError(f"expected num_{name} of at least 1; received {size}")
        rates = {"click": click_rate, "like": like_rate, "purchase": purchase_rate}
        for task, rate in rates.items():
            if not 0 < rate < 1:
                raise DatasetError(f"expected {task}_rate between 0 and 1; received {rate}")
        if not exponent >= 0:
            raise DatasetError(f"expected an exponent of at least 0; received {exponent}")
        self.num_users = num_users
        self.num_items = num_items
        self.num_rows = num_rows
        self._exponent = exponent
        self._rates = rates
        self._seed = seed
        self._draw_users()
        self._draw_items()

    def log(self) -> InteractionLog:
        """The exposures in time order, with user and item tables.

        Returns:
            Log of `num_rows` rows; `time` is in seconds and strictly increasing.
        """
        users, items, positions = self._exposures
        random = self._random("behaviours")
        probabilities = self.probabilities(users + 1, items + 1, positions)
        labels: dict[str, pa.Array] = {}
        defined = np.ones(self.num_rows, bool)
        for task, probability in probabilities.items():
            happened = random.random(self.num_rows, np.float32) < probability
            labels[task] = pa.array(happened.astype(np.int8), mask=~defined)
            defined = defined & happened
        gaps = 1 + random.geometric(0.05, self.num_rows)
        rows = {
            "user_id": users + 1,
            "item_id": items + 1,
            "time": _FIRST_TIME + np.cumsum(gaps),
            "position": positions,
            **labels,
        }
        return InteractionLog(pa.table(rows), SCHEMA, self._user_table(), self._item_table())

    def probabilities(
        self, user_ids: np.ndarray, item_ids: np.ndarray, positions: np.ndarray
    ) -> dict[str, np.ndarray]:
        """True probability of each behaviour, given that its parent happened.

        Args:
            user_ids: `int [n]`, from 1.
            item_ids: `int [n]`, from 1.
            positions: `int [n]`, the row's `position`, from 1 (best) to 10.

        Returns:
            `float32 [n]` per task.
        """
        scores = self._scores(
            np.asarray(user_ids) - 1, np.asarray(item_ids) - 1, np.asarray(positions)
        )
        return {
            task: _sigmoid(score + self._intercepts[task]).astype(np.float32)
            for task, score in scores.items()
        }

    def _random(self, purpose: str) -> np.random.Generator:
        # A stream per purpose: asking for rows never changes who the users are.
        return np.random.default_rng([self._seed, *purpose.encode()])

    def _draw_users(self) -> None:
        random, size = self._random("users"), self.num_users
        self._mixtures = random.dirichlet(np.full(len(_TOPICS), 0.3), size).astype(np.float32)
        self._user_vectors = random.standard_normal((size, 6), np.float32)
        self._leniency = 0.4 * random.standard_normal((size, len(self._rates)), np.float32)
        self._user_frequency = _power_law(random, size, self._exponent)
        favourite = self._mixtures.argmax(axis=1)
        self._age_groups = _noisy(random, favourite % _NUM_AGE_GROUPS, 0.6, _NUM_AGE_GROUPS)
        self._regions = _noisy(random, favourite * 5 % _NUM_REGIONS, 0.3, _NUM_REGIONS)

    def _draw_items(self) -> None:
        random, size = self._random("items"), self.num_items
        self._topics = random.integers(len(_TOPICS), size=size)
        self._item_vectors = random.standard_normal((size, 6), np.float32)
        self._appeal = 0.5 * random.standard_normal((size, len(self._rates)), np.float32)
        self._item_frequency = _power_law(random, size, self._exponent)
        self._categories = _noisy(random, self._topics, 0.8, len(_TOPICS))
        self._prices = np.round(np.exp(random.normal(3.0 + 0.1 * self._topics, 0.8)), 2)
        width = _TOPIC_WORDS.shape[1]
        first = random.integers(width, size=size)
        # Another word than the first, without drawing twice.
        second = (first + random.integers(1, width, size=size)) % width
        words = (
            random.choice(_ADJECTIVES, size),
            _TOPIC_WORDS[self._topics, first],
            _TOPIC_WORDS[self._topics, second],
        )
        self._titles = np.char.add(np.char.add(words[0], " "), np.char.add(words[1], " "))
        self._titles = np.char.add(self._titles, words[2])
        # Rotations of growing angle in the plane of two coordinates each.
        self._rotations = {}
        for order, task in enumerate(self._rates):
            angle = order * np.pi / 5
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            self._rotations[task] = np.kron(np.eye(3), turn).astype(np.float32)

    def blocks(
        self, block_rows: int = 2**21
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Exposures of the same shop in blocks, for graphs whose log would not fit in memory.

        They are drawn apart from those of `log` and have no times.

        Args:
            block_rows: Most rows of a block.

        Yields:
            Users `int32 [n]` and items `int32 [n]`, from 1, and behaviours `uint8 [n]`: bit t is
            set where the t-th task happened. `num_rows` rows in total.

        Example:
            >>> shop = BehaviorSimulator(num_users=9, num_items=9, num_rows=50)
            >>> [len(users) for users, _, _ in shop.blocks(block_rows=30)]
            [30, 20]
        """
        for first in range(0, self.num_rows, block_rows):
            random = self._random(f"block {first}")
            rows = min(block_rows, self.num_rows - first)
            users, items, positions = self._draw_exposures(random, rows)
            bits, defined = np.zeros(rows, np.uint8), np.ones(rows, bool)
            probabilities = self.probabilities(users + 1, items + 1, positions)
            for order, probability in enumerate(probabilities.values()):
                defined &= random.random(rows, np.float32) < probability
                bits |= defined.astype(np.uint8) << order
            yield (users + 1).astype(np.int32), (items + 1).astype(np.int32), bits

    @cached_property
    def _exposures(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._draw_exposures(self._random("exposures"), self.num_rows)

    @cached_property
    def _cumulated_users(self) -> np.ndarray:
        return np.cumsum(self._user_frequency)

    @cached_property
    def _items_by_topic(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Items in the order of their topics, their cumulated frequencies, and topics' masses.

        Each topic is one stretch of the cumulated frequencies, so that a draw within a topic is a
        draw within that stretch.
        """
        by_topic = np.argsort(self._topics, kind="stable")
        ends = np.cumsum(self._item_frequency[by_topic])
        mass = np.bincount(self._topics, self._item_frequency, minlength=len(_TOPICS))
        return by_topic, ends, mass

    @cached_property
    def _cumulated_leaning(self) -> np.ndarray:
        """A fifth of a user's exposures follow popularity alone, the rest the user's topics."""
        mass = self._items_by_topic[2]
        leaning = 0.2 * mass / mass.sum() + 0.8 * self._mixtures * (mass > 0)
        return np.cumsum(leaning / leaning.sum(axis=1, keepdims=True), axis=1)

    def _draw_exposures(
        self, random: np.random.Generator, rows: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        by_topic, ends, mass = self._items_by_topic
        stretch_ends = np.cumsum(mass)
        users = np.searchsorted(self._cumulated_users, random.random(rows))
        users = np.minimum(users, self.num_users - 1)
        draws = random.random(rows)
        topics = np.zeros(rows, np.int64)
        for column in range(len(_TOPICS) - 1):
            topics += draws > self._cumulated_leaning[users, column]
        points = stretch_ends[topics] - mass[topics] * random.random(rows)
        items = by_topic[np.minimum(np.searchsorted(ends, points), self.num_items - 1)]
        positions = random.integers(1, _NUM_POSITIONS + 1, rows)
        return users, items, positions

    def _scores(
        self, users: np.ndarray, items: np.ndarray, positions: np.ndarray
    ) -> dict[str, np.ndarray]:
        topical = 2.0 * self._mixtures[users, self._topics[items]]
        vectors = self._user_vectors[users]
        slots = {"click": -0.08 * (positions - 1).astype(np.float32)}
        scores = {}
        for order, (task, rotation) in enumerate(self._rotations.items()):
            personal = np.einsum("nd,nd->n", vectors, (self._item_vectors @ rotation.T)[items])
            scores[task] = (
                topical
                + 0.6 * personal
                + self._appeal[items, order]
                + self._leniency[users, order]
                + slots.get(task, np.float32(0))
            )
        return scores

    @cached_property
    def _intercepts(self) -> dict[str, float]:
        rows = min(self.num_rows, 100_000)
        users, items, positions = self._draw_exposures(self._random("intercepts"), rows)
        weight = np.ones(len(users))
        intercepts = {}
        for task, score in self._scores(users, items, positions).items():
            low, high = -30.0, 30.0
            for _ in range(40):
                middle = (low + high) / 2
                is_high = np.average(_sigmoid(score + middle), weights=weight) > self._rates[task]
                low, high = (low, middle) if is_high else (middle, high)
            intercepts[task] = middle
            # The next behaviour is drawn only where this one happened.
            weight = weight * _sigmoid(score + middle)
        return intercepts

    def _user_table(self) -> pa.Table:
        ids = np.arange(1, self.num_users + 1)
        return pa.table({"user_id": ids, "age_group": self._age_groups, "region": self._regions})

    def _item_table(self) -> pa.Table:
        return pa.table(
            {
                "item_id": np.arange(1, self.num_items + 1),
                "category": np.array(_TOPICS)[self._categories],
                "price": self._prices,
                "title": self._titles,
            }
        )


def simulate_log(
    *,
    num_users: int = 2_000,
    num_items: int = 1_000,
    num_rows: int = 100_000,
    exponent: float = 0.8,
    click_rate: float = 0.25,
    like_rate: float = 0.3,
    purchase_rate: float = 0.3,
    seed: int = 0,
    validation: float = 0.1,
    test: float = 0.1,
) -> LoadedDataset:
    """A simulated log, split by time; see `BehaviorSimulator` for how it is drawn.

    Args:
        num_users: Users, with ids from 1.
        num_items: Items, with ids from 1.
        num_rows: Exposures to draw.
        exponent: Exponent of the power law of users and items.
        click_rate: Share of exposures that are clicked.
        like_rate: Share of clicks that are liked.
        purchase_rate: Share of likes that are bought.
        seed: Seed of everything.
        validation: Share of the rows just before the test rows.
        test: Share of the rows, the newest.

    Returns:
        The log and its split; no history.

    Raises:
        DatasetError: If an argument is out of range.

    Example:
        >>> len(simulate_log(num_users=20, num_items=10, num_rows=100).split.test)
        10
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise DatasetError(
            "expected validation > 0, test > 0 and validation + test < 1; "
            f"received {validation} and {test}"
        )
    log = BehaviorSimulator(
        num_users=num_users,
        num_items=num_items,
        num_rows=num_rows,
        exponent=exponent,
        click_rate=click_rate,
        like_rate=like_rate,
        purchase_rate=purchase_rate,
        seed=seed,
    ).log()
    times = log.times
    assert times is not None
    tests, validations = round(num_rows * test), round(num_rows * validation)
    if min(tests, validations) < 1:
        raise DatasetError(f"expected num_rows for three parts; received {num_rows}")
    split = split_by_time(log, times[num_rows - tests - validations], times[num_rows - tests])
    return LoadedDataset(NAME, log, None, split, LICENCE, "")


def _power_law(random: np.random.Generator, size: int, exponent: float) -> np.ndarray:
    frequency = (np.arange(size) + 11.0) ** -exponent
    # Shuffled, so that an id does not tell a rank.
    return random.permutation(frequency / frequency.sum())


def _noisy(
    random: np.random.Generator, values: np.ndarray, kept: float, num_values: int
) -> np.ndarray:
    others = random.integers(num_values, size=len(values))
    return np.where(random.random(len(values)) < kept, values, others)


def _sigmoid(score: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-score))
