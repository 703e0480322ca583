from tests.pipelines.beam.conftest import assert_same_edges
from tfmtl.graph import GraphBundle
from tfmtl.pipelines.beam import assemble_graph_bundle


def test_same_bundle_as_on_one_machine(shards, bundle, tmp_path):
    received = assemble_graph_bundle(shards)
    assert received.manifest == bundle.manifest
    assert_same_edges(received.edge_sets, bundle.edge_sets)
    assert min(store.num_edges for store in bundle.edge_sets.values()) > 50
    received.save(tmp_path / "bundle")
    assert_same_edges(GraphBundle.load(tmp_path / "bundle").edge_sets, bundle.edge_sets)
