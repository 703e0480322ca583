import pytest
from pydantic import BaseModel, ConfigDict

from tfmtl.training.yaml_document import parse_yaml, validated, with_value


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: Inner | None = None
    name: str


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("1e-3", 0.001),
        ("-2.5E+2", -250.0),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        ("12", 12),
        ("1.5", 1.5),
        # What only begins like a number stays text.
        ("1e-3b", "1e-3b"),
        ("e5", "e5"),
        ("'1e-3'", "1e-3"),
        ("null", None),
    ],
)
def test_scalars(value, parsed):
    received = parse_yaml(f"x: {value}")["x"]
    assert received == parsed
    assert type(received) is type(parsed)


def test_only_plain_data_is_read():
    with pytest.raises(ValueError, match=r"not YAML: could not determine a constructor for the ta"):
        parse_yaml("!!python/object/apply:os.getcwd []")


def test_validated_returns_the_instance():
    assert validated(Outer, {"name": "a", "inner": {"size": 3}}).inner == Inner(size=3)


def test_unknown_fields_are_told_what_their_own_section_knows():
    with pytest.raises(
        ValueError, match=r"^inner.sise: unknown field 'sise'; expected some of \["
    ) as caught:
        validated(Outer, {"name": "a", "inner": {"sise": 3}})
    assert str(caught.value).endswith("['size']")


def test_a_value_is_replaced_in_a_copy():
    content = {"a": {"b": 1, "c": None}, "d": 2}
    assert with_value(content, ["a", "b"], [3], "x") == {"a": {"b": [3], "c": None}, "d": 2}
    assert with_value(content, ["a", "c", "e"], 3, "x")["a"] == {"b": 1, "c": {"e": 3}}
    assert with_value(None, ["f", "g"], 3, "x") == {"f": {"g": 3}}
    assert content == {"a": {"b": 1, "c": None}, "d": 2}
    with pytest.raises(ValueError, match=r"^x: 'e' is not inside a section, but inside 1$"):
        with_value(content, ["a", "b", "e"], 3, "x")
