"""Starting or joining Ray, with authentication on and its token file private."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventray.domain.errors import RayUnavailable, RayUnprotected

CONNECT_S = 10.0
ASK_WITHOUT_TOKEN = "/ray.rpc.NodeInfoGcsService/CheckAlive"
TOKEN_HINT = (
    "The address answers, so it may be the token that is refused: give this process the cluster's own, "
    "RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
)


def ensure_ray() -> bool:
    """Join the Ray of this process, of RAY_ADDRESS or of this machine, or start one; whether this call connected.

    A Ray that is started here asks its clients for a token (Ray's default; `RAY_AUTH_MODE=disabled` opts out).

    Raises:
        RayUnavailable: Ray is not installed, not reachable, or refuses this process.
    """
    ray = import_ray()
    if ray.is_initialized():
        _make_token_private()
        return False
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    ray_log = logging.getLogger("ray._private.worker")
    ray_log.addFilter(_is_news)
    try:
        ray.init(log_to_driver=False)  # the actors' output belongs to Ray's logs and dashboard, not to our stdout
    except Exception as error:
        raise RayUnavailable(_advice(error)) from error
    finally:
        ray_log.removeFilter(_is_news)
        _make_token_private()
    return True


@contextlib.contextmanager
def joined_ray() -> Iterator[None]:
    """Ray for the length of a block, as `ensure_ray` finds or starts it, in the calling thread.

    That thread must live as long: what Ray starts dies with it.
    """
    connected = ensure_ray()
    try:
        yield
    finally:
        if connected:
            import_ray().shutdown()


def import_ray() -> Any:
    """The `ray` module.

    Raises:
        RayUnavailable: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise RayUnavailable("Ray is not installed: `pip install 'ray[default]'`, or use local=True") from error
    return ray


def check_protected() -> None:
    """The Ray of this process asks for a token, or listens where only this machine reaches it.

    It is asked itself: what RAY_AUTH_MODE says here need not hold there.

    Raises:
        RayUnprotected: neither.
        RayUnavailable: that cannot be told.
    """
    address = str(import_ray().get_runtime_context().gcs_address)
    if not _is_loopback(address.rpartition(":")[0].strip("[]")) and _obeys_strangers(address):
        raise RayUnprotected(address)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _obeys_strangers(address: str) -> bool:
    """Whether it answers a call without a token.

    Raises:
        RayUnavailable: it does not answer at all, or in another protocol: nothing is known.
    """
    import grpc  # comes with ray[default]

    try:
        with grpc.insecure_channel(address) as channel:
            channel.unary_unary(ASK_WITHOUT_TOKEN)(b"", timeout=CONNECT_S)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise RayUnavailable(f"whether {address} asks for a token cannot be told: {error.details()}") from error
    return True


def _check_address(address: str) -> None:
    """Ray waits for minutes for a cluster that is not there."""
    host, _, port = address.rpartition(":")
    if not host or "://" in address or not port.isdigit():
        return  # none, "auto", "local", a Ray client: Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise RayUnavailable(_advice(error)) from error


def _is_news(record: logging.LogRecord) -> bool:
    """Not that Ray sets no SIGTERM handler here: it is started in a thread of ours, and the handler is the user's."""
    return "SIGTERM handler" not in record.getMessage()


def _advice(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    address = os.environ.get("RAY_ADDRESS")
    if "uthentic" in text or (address and "Failed to connect to Ray cluster" in text):
        return f"{text}\n{TOKEN_HINT}"
    if address and address != "auto":
        return f"{text}\nRAY_ADDRESS is {address!r}: is a cluster running there? Unset it to start Ray on this machine"
    return f"{text}\n`ray status` shows the cluster of this machine; local=True needs none"


def _make_token_private() -> None:
    """Ray writes the token file readable for everyone on the machine."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with contextlib.suppress(OSError):
        if path.is_file() and path.stat().st_mode & 0o077:
            path.chmod(0o600)
