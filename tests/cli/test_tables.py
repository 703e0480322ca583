import io

from rich.console import Console

from tfmtl.cli.tables import metrics_table, rows_table
from tfmtl.metrics import TaskMetrics


def printed(table):
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return [line.split() for line in text.getvalue().splitlines()]


def test_rows():
    rows = [{"edge set": "item_user", "edges": 12345, "share": 0.25}, {"a": "x", "b": 7, "c": 0.5}]
    lines = printed(rows_table(rows, title="runs/graph"))
    assert lines[0] == ["runs/graph"]
    assert ["│", "item_user", "│", "12,345", "│", "0.2500", "│"] in lines
    assert ["│", "x", "│", "7", "│", "0.5000", "│"] in lines


def test_models_stand_side_by_side_per_task():
    def metrics(auc):
        return TaskMetrics(auc, float("nan"), 0.5, 0.01, 1200, 34, 5)

    table = metrics_table(
        {
            "MMoE": {"click": metrics(0.71), "like": metrics(0.6)},
            "MoGENet": {"click": metrics(0.8), "like": metrics(0.65)},
        },
        title="test",
    )
    body = [line for line in printed(table) if line[:1] == ["│"]]
    assert [[line[1], line[3], line[5]] for line in body] == [
        ["click", "MMoE", "0.7100"],
        ["click", "MoGENet", "0.8000"],
        ["like", "MMoE", "0.6000"],
        ["like", "MoGENet", "0.6500"],
    ]
    assert body[0][7:] == ["nan", "│", "0.5000", "│", "0.0100", "│", "1,200", "│", "34", "│"]
