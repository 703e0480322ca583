import pytest
import tf_keras as keras

from tests.training.small_experiment import experiment
from tfmtl.training import load_run, precision_policy, train


@precision_policy("float16")
def fail():
    raise KeyError(keras.mixed_precision.global_policy().name)


def test_the_policy_is_put_back_after_an_error():
    with pytest.raises(KeyError, match="mixed_float16"):
        fail()
    assert keras.mixed_precision.global_policy().name == "float32"


def test_float32_is_float32_inside_another_policy():
    with precision_policy("bfloat16"), precision_policy("float32"):
        assert keras.layers.Dense(1).compute_dtype == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_run_computes_in_half_precision_and_keeps_whole_weights(precision, data, tmp_path):
    chosen = experiment("mmoe", f"training.precision={precision}", "training.epochs=6")
    model = train(chosen, tmp_path, data=data)
    scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (precision == "float16")
    assert {weight.dtype.name for weight in model.weights} == {"float32"}
    assert keras.mixed_precision.global_policy().name == "float32"
    losses = [float(line.split(",")[1]) for line in lines(tmp_path)[1:]]
    assert lines(tmp_path)[0].startswith("epoch,loss,")
    assert losses[-1] < losses[0]
    for one in (model, load_run(tmp_path).model):
        assert one.compute_dtype == precision
        dtypes = {layer.compute_dtype for layer in one.submodules if hasattr(layer, "units")}
        # Logits alone are computed in float32.
        assert {precision} <= dtypes <= {precision, "float32"}


def lines(folder):
    return (folder / "history.csv").read_text().splitlines()
