import pytest

from tfmtl.metrics import relative_improvement


@pytest.mark.parametrize(
    ("value", "base", "percent"), [(0.7428, 0.7383, 1.89), (0.8051, 0.7889, 5.61), (0.55, 0.6, -50)]
)
def test_known_values(value, base, percent):
    assert 100 * relative_improvement(value, base) == pytest.approx(percent, abs=0.005)


@pytest.mark.parametrize("base", [0.5, 0.4, float("nan")])
def test_refuses_a_base_at_chance(base):
    with pytest.raises(ValueError, match=f"above 0.5, the value at chance; received {base}"):
        relative_improvement(0.7, base)
