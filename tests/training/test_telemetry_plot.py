import pytest

from tfmtl.training import plot_telemetry

GATES = {
    "telemetry/gate/level/a/load_x": (0.5, 0.75),
    "telemetry/gate/level/a/load_y": (0.5, 0.25),
    "telemetry/gate/level/a/entropy": (1.0, 0.8),
    "telemetry/gate/b/load_y": (1.0, 1.0),
    "telemetry/gate/b/load_z": (0.0, 0.0),
    "telemetry/gate/b/entropy": (0.0, 0.0),
    "telemetry/dead_experts": (1, 1),
}
GRADIENTS = {
    "telemetry/gradient_norm/click": (0.1, 0.2),
    "telemetry/gradient_cosine/click/like": ("nan", 0.2),
}


def write(path, columns):
    lines = [["epoch", *columns], *([n + 1, *(v[n] for v in columns.values())] for n in (0, 1))]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))


@pytest.mark.parametrize("columns", [GATES, GRADIENTS, {**GATES, **GRADIENTS}])
def test_a_picture_is_written_whole(columns, tmp_path):
    write(tmp_path / "history.csv", columns)
    assert plot_telemetry(tmp_path / "history.csv", tmp_path / "telemetry.png")
    assert (tmp_path / "telemetry.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert {path.name for path in tmp_path.iterdir()} == {"telemetry.png", "history.csv"}


@pytest.mark.parametrize("columns", [{"loss": (0.7, 0.6)}, {"telemetry/gradient_norm/a": (1, 1)}])
def test_nothing_to_draw(columns, tmp_path):
    write(tmp_path / "history.csv", columns)
    assert not plot_telemetry(tmp_path / "history.csv", tmp_path / "telemetry.png")
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
