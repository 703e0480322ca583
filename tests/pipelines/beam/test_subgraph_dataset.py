import pytest

from tfmtl.pipelines.beam import subgraph_dataset


def test_missing_subgraphs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"subgraphs\.json is missing"):
        subgraph_dataset(str(tmp_path))
