"""`cluster.yaml` is what `ray up` takes: checked by Ray's own reader."""

from __future__ import annotations

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

PATH = Path(__file__).parent.parent / "cluster.yaml"


def test_ray_up_accepts_the_cluster_file() -> None:
    config = prepare_config(yaml.safe_load(PATH.read_text()))
    validate_config(config)
    assert config["cluster_name"] == "eventray"
    assert config["available_node_types"]


def test_every_start_command_asks_for_a_token() -> None:
    config = yaml.safe_load(PATH.read_text())
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[key]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
