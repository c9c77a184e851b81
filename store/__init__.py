"""The event store: events in sharded SQLite files (or in memory), with snapshots and checkpoints. No Ray."""

from eventray.store.backups import BackupReport, ShardEnd, backup
from eventray.store.checkpoints import CheckpointStore
from eventray.store.inspection import ShardInfo, StoreInfo, info
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
    StoredLetter,
    check_id,
    stream_name,
)
from eventray.store.resharding import ReshardReport, reshard
from eventray.store.restoring import RestoreReport, restore
from eventray.store.shard import Shard
from eventray.store.store import EventStore
from eventray.store.verification import VerifyReport, verify
from eventray.store.verify_shard import Problem, ShardReport

__all__ = [
    "Appended",
    "BackupReport",
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
    "Problem",
    "Record",
    "ReshardReport",
    "RestoreReport",
    "Shard",
    "ShardEnd",
    "ShardInfo",
    "ShardPage",
    "ShardPort",
    "ShardReport",
    "Snapshot",
    "StoreInfo",
    "StoreLimits",
    "StoredLetter",
    "VerifyReport",
    "backup",
    "check_id",
    "info",
    "reshard",
    "restore",
    "stream_name",
    "verify",
]
