"""Two replicas on a local Ray cluster. The tests share the cluster, and the last one ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from ipaddress import ip_address
from typing import Any

import psutil
import pytest

from tests import needs

needs.extra("ray")

import grpc

from tests.deploy.conftest import KEY, REPLICA, Deployment, Reply, command_line, load_on, status_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FRONT, MODEL = "ray::ServeReplica:codegen-lsp:Front", "ray::ServeReplica:codegen-lsp:Replica"
WORKER = "codegen_lsp.inference.worker"
DOCUMENTS = [f"document{number}.py" for number in range(12)]


def replicas_of(deployment: Deployment) -> set[str | None]:
    """Return the replicas that answer requests of different documents."""
    return {deployment.infill(document).replica for document in DOCUMENTS}


def assert_answered(replies: list[Reply]) -> None:
    """No request is lost: each is answered, or told that it was not, and why."""
    for reply in replies:
        assert reply.status == 200 or (reply.status == 503 and "Send the request again" in reply.body.decode())


def test_requests_of_a_document_go_to_one_replica_and_documents_to_all(deployment: Deployment) -> None:
    asked = {
        document: {deployment.infill(document, typed).replica for typed in ("", "th", "th, ")} for document in DOCUMENTS
    }
    assert [len(replicas) for replicas in asked.values()] == [1] * len(DOCUMENTS)
    assert len({replica for replicas in asked.values() for replica in replicas}) == 2


def test_answers_are_those_of_the_application(deployment: Deployment) -> None:
    reply = deployment.infill("a.py")
    assert (reply.status, json.loads(reply.body)["content"][:2]) == (200, "th")
    assert json.loads(deployment.ask("GET", "/v1/models").body)["data"]
    assert deployment.ask("GET", "/nothing").status == 404


def test_without_a_key_only_health_is_answered(deployment: Deployment) -> None:
    body = {"input_prefix": "x = ", "prompt": "", "input_suffix": ""}
    for key in (None, "another key of the same length"):
        assert deployment.ask("POST", "/infill", body, key).status == 401
        assert deployment.ask("GET", "/slots", key=key).status == 401
        assert deployment.ask("GET", "/health", key=key).status == 200


def test_what_ray_serve_itself_answers_is_no_more_than_is_documented(deployment: Deployment) -> None:
    assert deployment.ask("GET", "/-/healthz", key=None).body == b"success"
    assert json.loads(deployment.ask("GET", "/-/routes", key=None).body) == {"/": "codegen-lsp"}
    for path in ("/-/", "/-/metrics", "/-/routes/", "/-/slots"):
        assert deployment.ask("GET", path, key=None).status in (401, 404)


def test_a_page_of_another_origin_gets_nothing(deployment: Deployment) -> None:
    with contextlib.closing(deployment.connect()) as connection:
        headers = {"Authorization": f"Bearer {KEY}", "Origin": "https://page.example"}
        connection.request("POST", "/infill", json.dumps({"input_prefix": "x = "}), headers)
        assert connection.getresponse().status == 403
    with contextlib.closing(deployment.connect()) as connection:
        headers |= {"Origin": f"https://127.0.0.1:{deployment.port}", "X-Forwarded-Proto": "https"}
        connection.request("POST", "/infill", json.dumps({"input_prefix": "x = "}), headers)
        assert connection.getresponse().status == 403, "Ray Serve's proxy believes it"


def test_a_stream_arrives_in_parts_and_is_cancelled_when_its_client_leaves(deployment: Deployment) -> None:
    body = {"prompt": "x = [", "n_predict": 400, "stream": True, "temperature": 1.5, "seed": 1}
    with contextlib.closing(deployment.connect()) as connection:
        connection.request("POST", "/completion", json.dumps(body), {"Authorization": f"Bearer {KEY}"})
        answer = connection.getresponse()
        events = [answer.readline() for _ in range(6)]
        assert [event[:6] for event in events] == [b"data: ", b"\n"] * 3
        replica = answer.headers[REPLICA]
    # A request without a document has the key of its client, so it goes where the stream came from.
    wait_until(lambda: b"codegen_cancelled_generations_total 1.0" in deployment.ask("GET", "/metrics").body)
    assert deployment.ask("GET", "/metrics").replica == replica


def test_a_replica_that_is_killed_loses_no_request_and_is_replaced(deployment: Deployment) -> None:
    former = replicas_of(deployment)
    with load_on(deployment) as load:
        victim = deployment.named(MODEL)[0]
        victim.kill()
        wait_until(lambda: len(replicas_of(deployment) - former) == 1)
        assert len(replicas_of(deployment) & former) == 1  # the other one serves on
    assert not load.errors
    assert_answered(load.replies)
    wait_until(lambda: len(deployment.named(WORKER)) == 2)  # the killed one's worker has ended with it


def test_a_worker_that_is_killed_is_restarted_by_its_replica(deployment: Deployment) -> None:
    former = replicas_of(deployment)
    with load_on(deployment) as load:
        victim = deployment.named(WORKER)[0]
        victim.kill()
        wait_until(lambda: len([one for one in deployment.named(WORKER) if one.pid != victim.pid]) == 2)
        count = len(load.replies)
        wait_until(lambda: len(load.replies) > count + 20)
    assert not load.errors
    assert_answered(load.replies)
    assert replicas_of(deployment) == former


def test_an_update_loses_no_request(deployment: Deployment, embedded_build: os.PathLike[str]) -> None:
    former = replicas_of(deployment)
    with load_on(deployment) as load:
        result = deployment.update("--replicas", "2", "--model", os.fspath(embedded_build))
        assert result.returncode == 0, result.stderr
        wait_until(lambda: not replicas_of(deployment) & former)
    assert not load.errors
    assert {reply.status for reply in load.replies} == {200}
    wait_until(lambda: len(deployment.named(WORKER)) == 2)


def test_a_model_that_is_not_there_leaves_the_running_one(deployment: Deployment) -> None:
    former = replicas_of(deployment)
    result = deployment.update("--replicas", "2", "--model", "no-model")
    assert result.returncode == 1
    assert "no-model" in result.stderr
    assert replicas_of(deployment) == former


def test_another_address_on_the_same_cluster_is_refused(deployment: Deployment) -> None:
    result = deployment.update("--http", "1")
    assert result.returncode == 1
    assert f"listens on 127.0.0.1:{deployment.port}" in " ".join(result.stderr.split())


def test_only_this_machine_reaches_the_cluster_and_only_with_its_token(deployment: Deployment) -> None:
    """Ray Serve's replicas listen on all addresses and can't be told otherwise, so these ask for the token."""
    for process in deployment.children():
        for connection in listening(process):
            if not is_loopback(connection.laddr.ip):
                assert "ray::ServeReplica" in " ".join(process.cmdline())
                with grpc.insecure_channel(f"127.0.0.1:{connection.laddr.port}") as channel:
                    for service in ("HandleRequest", "HandleRequestWithRejection"):
                        with pytest.raises(grpc.RpcError) as refused:
                            channel.unary_unary(f"/ray.serve.ASGIService/{service}")(b"", timeout=60)
                        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_processes_of_the_cluster_can_reach_no_other_machine_by_http(deployment: Deployment) -> None:
    """One of them asks at its start on which cloud it runs."""
    dashboard = deployment.named("ray/dashboard/dashboard.py")
    assert dashboard
    for process in dashboard:
        assert process.environ()["http_proxy"] == "http://127.0.0.1:9"
        assert process.environ()["RAY_USAGE_STATS_ENABLED"] == "0"


def test_removing_the_server_ends_its_workers_and_leaves_the_cluster(deployment: Deployment) -> None:
    removed = deployment.update("--remove")
    assert removed.returncode == 0, removed.stderr
    wait_until(lambda: not deployment.named(WORKER))
    assert deployment.ask("GET", "/health").status == 404
    again = deployment.update("--remove")
    assert (again.returncode, "No application codegen-lsp runs" in again.stderr) == (1, True)
    assert deployment.process.poll() is None


def test_replicas_are_added_under_load(deployment: Deployment) -> None:
    """After ten seconds of load. That they end again after five minutes without any is not waited for."""
    result = deployment.update("--replicas", "auto", "--threads", "1")
    assert result.returncode == 0, result.stderr
    if "1 to 1 replicas" in result.stderr:
        pytest.skip("this machine has one core")
    wait_until(lambda: deployment.infill("a.py").status == 200)
    assert len(deployment.named(MODEL)) == 1
    with load_on(deployment, clients=12) as load:
        wait_until(lambda: len(replicas_of(deployment)) > 1)
    assert not load.errors
    assert {reply.status for reply in load.replies} == {200}


def test_ctrl_c_ends_everything(deployment: Deployment) -> None:
    before = deployment.children()
    arguments = [argument for process in before for argument in command_line(process)]
    folders = {argument.partition("=")[2] for argument in arguments if argument.startswith("--session-dir=")}
    assert folders
    os.killpg(deployment.process.pid, signal.SIGINT)
    assert deployment.process.wait(120) == 0, deployment.log.read_text()
    wait_until(lambda: not [process for process in before if process.is_running() and status_of(process) != "zombie"])
    assert not [folder for folder in folders if os.path.exists(folder)]  # noqa: PTH110


def listening(process: psutil.Process) -> list[Any]:
    with contextlib.suppress(psutil.Error):
        return [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    return []


def is_loopback(address: str) -> bool:
    parsed = ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
