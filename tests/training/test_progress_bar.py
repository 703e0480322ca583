import io

from rich.console import Console

from tfmtl.training import ProgressBar


def shown(terminal, play):
    text = io.StringIO()
    bar = ProgressBar("mmoe", console=Console(file=text, force_terminal=terminal, width=60))
    bar.set_params({"steps": 2, "epochs": 3})
    play(bar)
    return text.getvalue()


def one_epoch(bar):
    bar.on_epoch_begin(1)
    bar.on_train_batch_end(0, {"loss": 0.75})
    bar.on_train_batch_end(1, {"loss": 0.5})
    logs = {"loss": 0.625, "val_auc": 0.71, "val_gauc": 0.68, "val_log_loss": 0.5, "lr": 1.0}
    bar.on_epoch_end(1, logs)


def test_an_epoch_leaves_one_line():
    lines = shown(False, one_epoch).strip().splitlines()
    assert lines == [
        "mmoe: epoch 2, loss 0.6250; validation mean over tasks: auc 0.7100, gauc 0.6800, "
        "log_loss 0.5000"
    ]


def test_a_terminal_sees_steps_and_loss():
    text = shown(True, one_epoch)
    assert "mmoe, epoch 2" in text
    assert "2/2" in text
    assert "loss 0.5000" in text


def test_bars_do_not_pile_up():
    def play(bar):
        for _ in range(2):
            one_epoch(bar)
        assert not bar._progress.tasks

    assert shown(False, play).count("epoch 2") == 2


def test_an_interrupted_epoch_gives_the_terminal_back():
    def play(bar):
        bar.on_epoch_begin(0)
        bar.close()

    hide_cursor, show_cursor = "\x1b[?25l", "\x1b[?25h"
    text = shown(True, play)
    assert hide_cursor in text
    assert text.rindex(show_cursor) > text.rindex(hide_cursor)


def test_closing_before_the_first_epoch_is_harmless():
    assert shown(False, lambda bar: bar.close()).strip() == ""
