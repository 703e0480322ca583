"""The rooms of the package, in the order in which they may import one another."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import tfmtl

# A room imports rooms of lower rank; rooms of one rank do not know one another.
RANKS = {
    name: rank
    for rank, names in enumerate(
        [
            ["keras_guard"],
            ["schema"],
            ["data"],
            ["datasets"],
            ["graph"],
            ["layers"],
            ["objectives", "metrics"],
            ["models"],
            ["training"],
            ["evaluation"],
            ["export"],
            ["serving"],
            ["pipelines"],
            # These two may import everything and are imported by nothing.
            ["testing", "cli"],
        ]
    )
    for name in names
}
WITHOUT_PUBLIC_NAMES = {"keras_guard", "cli"}


def public_rooms() -> list[str]:
    """Names of the rooms that have public names, by folder or file."""
    found = {module.name for module in pkgutil.iter_modules(tfmtl.__path__)}
    return sorted(found - WITHOUT_PUBLIC_NAMES)


def room(name: str) -> ModuleType:
    """The room itself, imported."""
    return importlib.import_module(f"tfmtl.{name}")


def public_names(module: ModuleType) -> list[str]:
    """`__all__`, or the classes and functions defined in a module without it."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    )
