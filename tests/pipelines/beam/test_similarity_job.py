import pytest

from tests.pipelines.beam.conftest import CONFIG
from tfmtl.pipelines.beam import run_similarity_job


def test_needs_the_interaction_graph(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"interactions\.json is missing"):
        run_similarity_job(str(tmp_path), CONFIG)


def test_second_run_into_one_folder(shards):
    with pytest.raises(FileExistsError, match=r"user_user-\*\.parquet exist already"):
        run_similarity_job(shards, CONFIG)
