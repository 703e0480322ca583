import pytest

from tfmtl.pipelines.beam.sampling_program import sampling_program


@pytest.mark.slow
def test_every_program_of_a_process_has_a_sink():
    fan_outs = {"item_user": (3, 2), "user_item": (3, 2)}
    for _ in range(2):
        program, artifacts, layers = sampling_program(fan_outs, ["interaction"], spare=1)
        assert program.layers["sink"].type == "Sink"
        assert set(artifacts.models) < set(program.layers)
        assert layers == {
            "item_user_0": "item_user",
            "user_item_0": "user_item",
            "item_user_1": "item_user",
            "user_item_1": "user_item",
        }
