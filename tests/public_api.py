"""Writes the public names of every room to `tests/public_api.txt`: `python -m tests.public_api`."""

from pathlib import Path

from tests.rooms import public_names, public_rooms, room

GOLDEN = Path(__file__).with_suffix(".txt")


def current() -> list[str]:
    return sorted(
        f"{name}.{public}" for name in public_rooms() for public in public_names(room(name))
    )


if __name__ == "__main__":
    GOLDEN.write_text("\n".join(current()) + "\n", encoding="utf-8")
