from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

ROWS = [
    {"user_id": 3, "item_id": "heat", "age": [2, 1]},
    {"user_id": 5, "item_id": {"b64": "dW5rbm93bg=="}, "age": [0.5, 10]},
]
COLUMNS = {"user_id": [3, 5], "item_id": ["heat", "unknown"], "age": [[2, 1], [0.5, 10]]}


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=f"http://127.0.0.1:{server.rest_port}", trust_env=False) as client:
        yield client


@pytest.mark.parametrize("version", ["", "/versions/12"])
def test_predict_by_row(client, version):
    answer = client.post(f"/v1/models/ranker{version}:predict", json={"instances": ROWS})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "predictions": [
            {"click": 7.25, "title": "HEAT", "next": 4},
            {"click": 12.5, "title": "UNKNOWN", "next": 6},
        ]
    }


def test_predict_by_column(client):
    answer = client.post("/v1/models/ranker:predict", json={"inputs": COLUMNS})
    assert answer.json() == {
        "outputs": {"click": [7.25, 12.5], "title": ["HEAT", "UNKNOWN"], "next": [4, 6]}
    }


def test_predict_runs_the_signature_asked_for(client):
    body = {"signature_name": "double", "instances": [0.1, 2]}
    answer = client.post("/v1/models/ranker:predict", json=body)
    assert answer.json() == {"predictions": [0.2, 4.0]}


def test_values_of_other_kinds(client):
    body = {
        "signature_name": "kinds",
        "inputs": {"flag": [True], "count": [7], "weight": [0.1], "level": [200]},
    }
    answer = client.post("/v1/models/ranker:predict", json=body)
    assert answer.json() == {
        "outputs": {"flag": [False], "count": [-7], "weight": [0.1], "level": [200]}
    }


def test_outputs_named_bytes_are_base64(client):
    body = {"signature_name": "echo", "instances": [{"b64": "/w=="}]}
    answer = client.post("/v1/models/ranker:predict", json=body)
    assert answer.json() == {"predictions": [{"b64": "/w=="}]}


def test_concurrent_requests_get_their_own_answers(client):
    def ask(number):
        body = {"signature_name": "double", "instances": [number]}
        return client.post("/v1/models/ranker:predict", json=body).json()["predictions"][0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(100))) == [2.0 * number for number in range(100)]


@pytest.mark.parametrize("version", ["", "/versions/12"])
def test_status(client, version):
    answer = client.get(f"/v1/models/ranker{version}")
    assert answer.status_code == 200
    assert answer.json() == {
        "model_version_status": [
            {
                "version": "12",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


@pytest.mark.parametrize("version", ["", "/versions/12"])
def test_metadata(client, version):
    answer = client.get(f"/v1/models/ranker{version}/metadata").json()
    assert answer["model_spec"] == {"name": "ranker", "signature_name": "", "version": "12"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert sorted(signature["outputs"]) == ["click", "next", "title"]
    age = signature["inputs"]["age"]
    assert age["dtype"] == "DT_FLOAT"
    assert age["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }


@pytest.mark.parametrize(
    ("path", "body", "code", "message"),
    [
        ("other", {"instances": ROWS}, 404, "model 'other' is not served here"),
        ("ranker/versions/11", {"instances": ROWS}, 404, "version 11 of model 'ranker'"),
        (f"ranker/versions/{2**64}", {"instances": ROWS}, 400, "is no 64-bit number"),
        ("ranker/labels/stable", {"instances": ROWS}, 400, "version label 'stable' is unknown"),
        ("ranker", {"instances": ROWS, "signature_name": "no"}, 404, "signature 'no' not found"),
        ("ranker", {"instances": ROWS, "signature_name": 7}, 400, "expected a string; got 7"),
        ("ranker", {"rows": ROWS}, 400, "exactly one of the keys 'instances' and 'inputs'"),
        ("ranker", {"inputs": {**COLUMNS, "hue": [1]}}, 400, "unexpected inputs ['hue']"),
        ("ranker", {"inputs": {**COLUMNS, "user_id": [1.5, 2]}}, 400, "int64 holds without loss"),
        ("ranker", {"inputs": {**COLUMNS, "user_id": [[1, 2]]}}, 400, "received (1, 2)"),
        ("ranker", {"inputs": {**COLUMNS, "user_id": [1, 2, 3]}}, 400, "failed: "),
        (
            "ranker",
            {"signature_name": "add", "instances": [{"a": 1, "b": 2}]},
            400,
            "one leading dimension in common",
        ),
        ("ranker", {"signature_name": "half", "instances": [1]}, 501, "no form for dtype float16"),
        (
            "ranker",
            {"signature_name": "text", "instances": [{"b64": "/w=="}]},
            500,
            "name it 'raw_bytes'",
        ),
    ],
)
def test_bad_requests_get_their_code_and_message(client, path, body, code, message):
    answer = client.post(f"/v1/models/{path}:predict", json=body)
    assert answer.status_code == code
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]


def test_body_that_is_no_json(client):
    answer = client.post("/v1/models/ranker:predict", content=b"{")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("JSON parse error")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/models/other", 404),
        ("GET", "/v1/models/ranker/versions/11/metadata", 404),
        ("GET", "/v1/models/ranker/labels/stable", 400),
        ("GET", "/v1/models", 400),
        ("GET", "/v1/models/ranker/versions/newest", 400),
        ("POST", "/v1/models/ranker:classify", 400),
        ("POST", "/v1/models/ranker", 400),
        ("GET", "/docs", 404),
    ],
)
def test_other_paths_are_json_errors(client, method, path, code):
    answer = client.request(method, path)
    assert answer.status_code == code
    assert list(answer.json()) == ["error"]
    if code == 400 and "labels" not in path:
        assert answer.json()["error"] == f"Malformed request: {method} {path}"


def test_unforeseen_failures_are_json_errors(server, client, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("tfmtl.serving.rest_app.decode_inputs", fail)
    answer = client.post("/v1/models/ranker:predict", json={"instances": ROWS})
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal error: ZeroDivisionError"}
