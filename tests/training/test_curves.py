import pytest

from tfmtl.training import plot_curves

HEADER = "epoch,loss,val_auc,val_gauc,val_log_loss\n"
PNG = b"\x89PNG\r\n\x1a\n"


def test_a_picture_is_written_whole(tmp_path):
    history = tmp_path / "history.csv"
    # A log without users has no GAUC in any epoch.
    history.write_text(f"{HEADER}1,0.7,0.55,nan,0.66\n2,0.6,0.60,nan,0.62\n")
    plot_curves(history, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "history.csv"]


def test_a_history_without_epochs_is_refused(tmp_path):
    (tmp_path / "history.csv").write_text(HEADER)
    with pytest.raises(ValueError, match="has no finished epoch to plot"):
        plot_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
