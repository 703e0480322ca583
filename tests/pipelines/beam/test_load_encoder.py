import pytest

from tfmtl.data import FeatureEncoderError
from tfmtl.pipelines.beam.load_encoder import load_encoder


def test_same_encoder(shop):
    assert load_encoder(shop.encoder_folder).fingerprint() == shop.encoder.fingerprint()


def test_missing_encoder_names_the_folder(tmp_path):
    with pytest.raises(FeatureEncoderError, match=r"encoder\.json is missing; expected the folder"):
        load_encoder(str(tmp_path))


def test_damaged_encoder(shop, tmp_path):
    for name in ("encoder.json", "encoder.npz"):
        content = (shop.folder / "encoder" / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-100])
    with pytest.raises(FeatureEncoderError, match="save the encoder again"):
        load_encoder(str(tmp_path))
