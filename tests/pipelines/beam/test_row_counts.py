from tfmtl.pipelines.beam import RowCounts


def test_counts_without_times():
    assert RowCounts(2, 1, 1).merged(RowCounts(3, 0, 2)) == RowCounts(5, 1, 3, None, None)


def test_window_spans_both():
    merged = RowCounts(1, 0, 1, 5, 6).merged(RowCounts(1, 0, 1, 2, 5)).merged(RowCounts())
    assert merged == RowCounts(2, 0, 2, 2, 6)
