"""The application on Ray Serve: its deployments, their limits, and how it is put on a cluster and removed."""

from __future__ import annotations

import logging
from typing import Any

from attrs import evolve
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import RayServeException

from codegen_lsp.deploy.capacity import Capacity
from codegen_lsp.deploy.front import Front
from codegen_lsp.deploy.replica import Replica
from codegen_lsp.errors import ClusterError
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.settings import Settings

NAME = "codegen-lsp"
ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
"""Chooses the replica by a hash of the session, which is the document here, so that few documents move when replicas
come and go; a replica that takes no more requests is passed over."""

FRONTS = 2
"""Fronts, so that one takes over at once when another one dies."""
REQUESTS_OF_REPLICA = 32
"""Requests at once of one replica, which decodes some of them together; more go to the next one."""
REQUESTS_TARGET = 4
"""Requests at once of one replica at which the number of replicas is right, where it follows the load."""
UPSCALE_SECONDS, DOWNSCALE_SECONDS = 10, 300
"""Load must last this long before replicas are added or removed: typing comes in bursts."""
HEALTH_SECONDS, HEALTH_TIMEOUT_SECONDS = 2, 30
"""A replica is asked this often after its health, and replaced after three failures or one timeout."""
CONSTRUCTOR_ATTEMPTS = 3
"""Attempts to start a replica before a deployment is given up. A model that is not found is not found later either."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}


def put(settings: Settings, config: HttpConfig, keys: list[str], capacity: Capacity, *, every_node: bool) -> None:
    """Run the application on the cluster, or update the one that runs there, and wait until it serves.

    `keys` are those of which clients must give one; none are needed if it is empty. In an update, each replica's
    successor is ready before the replica ends, and the replica answers what it began.

    Raises: ClusterError.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="EveryNode" if every_node else "HeadOnly",
        http_options={"host": config.host, "port": config.port},
        logging_config=QUIET,
    )
    _check_address(config)
    try:
        serve.run(_application(settings, config, keys, capacity), name=NAME, route_prefix="/", logging_config=QUIET)
    except (RuntimeError, RayServeException) as error:
        raise ClusterError(
            f"The application could not be deployed: {_cause(str(error))}", "Replicas that run already serve on."
        ) from error


def remove() -> None:
    """End the application on the cluster, once it has answered what it began. Raises: ClusterError if it does not run.

    Ray Serve itself stays, since it may serve other applications.
    """
    if NAME not in serve.status().applications:
        raise ClusterError(f"No application {NAME} runs on this cluster.")
    serve.delete(NAME)


def _application(settings: Settings, config: HttpConfig, keys: list[str], capacity: Capacity) -> Any:
    config = evolve(config, key_file=None)  # a file of this machine; the nodes get its keys
    limits = {
        "health_check_period_s": HEALTH_SECONDS,
        "health_check_timeout_s": HEALTH_TIMEOUT_SECONDS,
        "graceful_shutdown_timeout_s": config.request_seconds,
        "max_surge_percent": 1,  # rounded up: one at a time
        "max_constructor_retry_count": CONSTRUCTOR_ATTEMPTS,
    }
    number: dict[str, Any] = {"num_replicas": capacity.replicas}
    if capacity.replicas is None:
        scaling = AutoscalingConfig(
            min_replicas=1,
            max_replicas=capacity.most_replicas,
            target_ongoing_requests=REQUESTS_TARGET,
            upscale_delay_s=UPSCALE_SECONDS,
            downscale_delay_s=DOWNSCALE_SECONDS,
        )
        number = {"autoscaling_config": scaling}
    replica = serve.deployment(
        Replica,
        max_ongoing_requests=REQUESTS_OF_REPLICA,
        max_queued_requests=config.max_requests,
        ray_actor_options={"num_cpus": capacity.reserved_cpus},
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        **number,
        **limits,
    )
    front = serve.deployment(
        Front,
        num_replicas=FRONTS,
        max_ongoing_requests=config.max_requests,
        ray_actor_options={"num_cpus": 0},
        **limits,
    )
    return front.bind(replica.bind(settings, config), config, keys)


def _check_address(config: HttpConfig) -> None:
    """Raise ClusterError if Ray Serve runs already and listens elsewhere: its address is fixed when it starts."""
    running = serve.context._get_global_client().http_config
    if (running.host, running.port) != (config.host, config.port):
        raise ClusterError(
            f"Ray Serve runs on this cluster already and listens on {running.host}:{running.port}.",
            f"Give --http {running.host}:{running.port}, or end it with `serve shutdown`.",
        )


def _cause(text: str) -> str:
    """Return why a deployment failed: the line of a replica's traceback that names its error, else `text`."""
    application = serve.status().applications.get(NAME)
    messages = [one.message for one in application.deployments.values()] if application else []
    lines = [line.strip() for message in messages for line in message.splitlines()]
    return next((line for line in reversed(lines) if "Error: " in line), text.strip())
