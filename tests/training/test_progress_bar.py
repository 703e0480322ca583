import io
import re

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


def test_the_rest_of_an_epoch_goes_on_where_it_stopped():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=60)
    bar = ProgressBar("mmoe", first_step=3, console=console)
    # `fit` is given two of five steps, and then five of the next epoch.
    for epoch, steps in enumerate([2, 5]):
        bar.set_params({"steps": steps})
        bar.on_epoch_begin(epoch)
        for batch in range(steps):
            bar.on_train_batch_end(batch, {"loss": 0.5})
        bar.on_epoch_end(epoch, {"loss": 0.5})
    received = [part for part in re.split(r"[^0-9/]+", text.getvalue()) if part.endswith("/5")]
    assert received[0] in ("3/5", "4/5", "5/5")
    assert "1/5" not in received[: received.index("5/5")]
    assert received[-1] == "5/5"


def test_the_loss_of_every_step_is_not_waited_for():
    class Loss:
        read = 0

        def __float__(self):
            self.read += 1
            return 0.5

    loss = Loss()

    def play(bar):
        bar.set_params({"steps": 1000})
        bar.on_epoch_begin(0)
        for batch in range(1000):
            bar.on_train_batch_end(batch, {"loss": loss})
        bar.close()

    shown(True, play)
    # The first and the last, and one for each tenth of a second between.
    assert 2 <= loss.read < 1000


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
