"""The event store: events in sharded SQLite files (or in memory), with snapshots and checkpoints. No Ray."""

from eventray.store.checkpoints import CheckpointStore
from eventray.store.limits import StoreLimits
from eventray.store.manifest import Manifest
from eventray.store.memory import MemoryCheckpoints, MemoryShard
from eventray.store.port import CheckpointPort, LocalShardPort, ShardPort
from eventray.store.records import (
    Appended,
    BatchResult,
    Checkpoint,
    Committed,
    DuplicateCommands,
    Loaded,
    NewCommand,
    NewRecord,
    Record,
    ShardPage,
    Snapshot,
    check_id,
    stream_name,
)
from eventray.store.shard import Shard
from eventray.store.store import EventStore

__all__ = [
    "Appended",
    "BatchResult",
    "Checkpoint",
    "CheckpointPort",
    "CheckpointStore",
    "Committed",
    "DuplicateCommands",
    "EventStore",
    "Loaded",
    "LocalShardPort",
    "Manifest",
    "MemoryCheckpoints",
    "MemoryShard",
    "NewCommand",
    "NewRecord",
    "Record",
    "Shard",
    "ShardPage",
    "ShardPort",
    "Snapshot",
    "StoreLimits",
    "check_id",
    "stream_name",
]
