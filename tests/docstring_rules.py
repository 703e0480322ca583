"""What the docstring of a public class or function must say, held against its signature."""

import ast
import dataclasses
import inspect
import re

from pydantic import BaseModel

_HEADING = re.compile(r"^(\w[\w /]*):\s*$")
_ENTRY = re.compile(r"^(\*{0,2}\w+)(?: \([^)]*\))?:(?: |$)")
_NUMBER = r"-?\d[\d_]*(?:\.\d+)?(?:e-?\d+)?"
_LITERAL = rf"""(?P<literal>None|True|False|{_NUMBER}|'[^']*'|"[^"]*")(?![\w%])"""
_STATED = re.compile(
    rf"\b(?:[Dd]efaults? to|[Bb]y default|[Dd]efault:?|default is) (?:`(?P<code>[^`]+)`|{_LITERAL})"
)
UNSTATED = object()


def problems(name, value):
    """What is wrong with the docstring of one public name, as a list of sentences."""
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return []
    text = inspect.cleandoc(value.__doc__ or "")
    if not text:
        return [f"{name} has no docstring"]
    if inspect.isclass(value) and issubclass(value, BaseException):
        return []
    found = []
    first, _, rest = text.partition("\n")
    if not first.endswith((".", "?")) or (rest and not rest.startswith("\n")):
        found.append(f"{name}: the summary is not one line that ends with a full stop")
    found += _argument_problems(name, text, *signature_of(value))
    if ">>>" not in section(text, "Example") + section(text, "Examples"):
        found.append(f"{name} has no Example")
    if inspect.isclass(value):
        for method_name, method in vars(value).items():
            found += _method_problems(f"{name}.{method_name}", method_name, method)
    return found


def _method_problems(name, method_name, method):
    method = getattr(method, "__func__", method)
    if not inspect.isfunction(method) or method_name.startswith("_"):
        return []
    text = inspect.cleandoc(method.__doc__ or "")
    if not text:
        return [f"{name} has no docstring"]
    parameters, _ = _signature(method, skip_first=True)
    return _argument_problems(name, text, parameters, required=False)


def _argument_problems(name, text, parameters, required):
    stated = arguments(section(text, "Args"))
    if not stated and not required:
        return []
    found = []
    needed = {key for key in parameters if not key.startswith("**")}
    if missing := sorted(needed - set(stated)):
        found.append(f"{name}: Args lacks {missing}")
    if surplus := sorted(set(stated) - set(parameters)):
        found.append(f"{name}: Args has {surplus}, which the signature does not")
    for key, entry in stated.items():
        default = parameters.get(key, UNSTATED)
        if default is not UNSTATED and (claim := wrong_default(entry, default, parameters)):
            found.append(f"{name}: {key} is said to default to {claim}; it is {default!r}")
    return found


def section(text, title):
    """Body of a section of a Google-style docstring, or an empty string."""
    body, inside = [], False
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            inside = heading.group(1) == title
        elif line and not line.startswith(" "):
            inside = False
        elif inside:
            body.append(line)
    return inspect.cleandoc("\n".join(["", *body])) if body else ""


def arguments(body):
    """Entries of an Args section, name to text."""
    entries = {}
    for line in body.splitlines():
        if entry := _ENTRY.match(line):
            current = entry.group(1)
            entries[current] = line[entry.end() :]
        elif entries:
            entries[current] += " " + line.strip()
    return entries


def signature_of(value):
    """Parameters to document with their defaults, and whether they must be documented here."""
    if inspect.isfunction(value):
        return _signature(value)
    if issubclass(value, BaseModel):
        fields = {
            key: UNSTATED if field.default_factory or field.is_required() else field.default
            for key, field in value.model_fields.items()
        }
        return fields, bool(value.__annotations__)
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        return _signature(value)[0], bool(value.__annotations__)
    owner = next(cls for cls in value.__mro__ if "__init__" in vars(cls))
    return _signature(owner.__init__, skip_first=True)[0], owner is value


def _signature(function, skip_first=False):
    parameters = list(inspect.signature(function).parameters.values())
    parameters = parameters[1:] if skip_first and _takes_self(parameters) else parameters
    prefix = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    found = {}
    for parameter in parameters:
        default = parameter.default
        # A dataclass shows a default made anew for each instance as `<factory>`.
        given = default is not parameter.empty and repr(default) != "<factory>"
        found[prefix.get(parameter.kind, "") + parameter.name] = default if given else UNSTATED
    return found, bool(found)


def _takes_self(parameters):
    return bool(parameters) and parameters[0].name in ("self", "cls")


def wrong_default(entry, default, parameters):
    """The default an entry states, when it is not the signature's; else `None`.

    A default in words, as in "defaults to the training mean", is not checked; neither is the name
    of another parameter, which stands for `None` in the signature.
    """
    stated = _STATED.search(entry)
    if not stated:
        return None
    claim = stated["code"] or stated["literal"]
    if claim in parameters:
        return None if default is None else claim
    try:
        value = ast.literal_eval(claim)
    except (ValueError, SyntaxError):
        return None if claim in (str(default), getattr(default, "__name__", None)) else claim
    agrees = value == default and (value is None) == (default is None)
    return None if agrees or claim == str(default) else claim
