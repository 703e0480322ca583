"""YAML text into pydantic models, with messages of one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Reads `1e-3` as a number, which YAML 1.1 takes for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Plain data of a YAML document.

    Args:
        text: The document.

    Returns:
        Dictionaries, lists and scalars.

    Raises:
        ValueError: If the text is not YAML.

    Example:
        >>> parse_yaml("learning_rate: 1e-3")
        {'learning_rate': 0.001}
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error


def with_value(content: Any, path: Sequence[str], value: Any, origin: str) -> Any:
    """A copy of plain data with one value replaced.

    Args:
        content: Plain data; None stands for an empty section.
        path: Names of the sections and of the field.
        value: The new value.
        origin: What the error says of where the value comes from.

    Returns:
        The copy; sections that were not there are made.

    Raises:
        ValueError: If the path leads into something that is no section.

    Example:
        >>> with_value({"training": {"epochs": 2}}, ["training", "seed"], 1, "override")
        {'training': {'epochs': 2, 'seed': 1}}
    """
    if not path:
        return value
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ValueError(f"{origin}: {path[0]!r} is not inside a section, but inside {content!r}")
    return content | {path[0]: with_value(content.get(path[0]), path[1:], value, origin)}


def validated(model: type[_Model], content: Any) -> _Model:
    """An instance of a pydantic model, or every problem of the content in one line.

    Args:
        model: The model.
        content: Plain data.

    Returns:
        The instance.

    Raises:
        ValueError: Names each field with what is wrong with it.

    Example:
        >>> from tfmtl.data.statistics_config import StatisticsConfig
        >>> validated(StatisticsConfig, {"entities": ["user_id"], "prior": -1})
        Traceback (most recent call last):
        ValueError: prior: Input should be greater than 0; received -1
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [_described(model, problem) for problem in error.errors()]
        raise ValueError("; ".join(problems)) from error


def _described(model: type[BaseModel], problem: Any) -> str:
    *sections, last = problem["loc"] or ("",)
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{field}: unknown field {last!r}; expected some of {_fields(model, sections)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] not in ("missing", "value_error"):
        message += f"; received {problem['input']!r}"
    return f"{field}: {message}" if field else message


def _fields(model: type[BaseModel], sections: Sequence[Any]) -> list[str]:
    for section in sections:
        kind = model.model_fields[section].annotation
        model = next(
            option
            for option in (kind, *get_args(kind))
            if isinstance(option, type) and issubclass(option, BaseModel)
        )
    return list(model.model_fields)
