"""The event store: events in sharded SQLite files (or in memory), with snapshots and checkpoints. No Ray."""

from typing import TYPE_CHECKING

from eventray.domain.lazy import lazily

if TYPE_CHECKING:
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

# Imported when they are asked for: a process that only encodes events needs no SQLite and no backups.
_LAZY = {
    "BackupReport": "eventray.store.backups",
    "ShardEnd": "eventray.store.backups",
    "backup": "eventray.store.backups",
    "CheckpointStore": "eventray.store.checkpoints",
    "ShardInfo": "eventray.store.inspection",
    "StoreInfo": "eventray.store.inspection",
    "info": "eventray.store.inspection",
    "StoreLimits": "eventray.store.limits",
    "Manifest": "eventray.store.manifest",
    "MemoryCheckpoints": "eventray.store.memory",
    "MemoryShard": "eventray.store.memory",
    "CheckpointPort": "eventray.store.port",
    "LocalShardPort": "eventray.store.port",
    "ShardPort": "eventray.store.port",
    "Appended": "eventray.store.records",
    "BatchResult": "eventray.store.records",
    "Checkpoint": "eventray.store.records",
    "Committed": "eventray.store.records",
    "DuplicateCommands": "eventray.store.records",
    "Loaded": "eventray.store.records",
    "NewCommand": "eventray.store.records",
    "NewRecord": "eventray.store.records",
    "Record": "eventray.store.records",
    "ShardPage": "eventray.store.records",
    "Snapshot": "eventray.store.records",
    "StoredLetter": "eventray.store.records",
    "check_id": "eventray.store.records",
    "stream_name": "eventray.store.records",
    "ReshardReport": "eventray.store.resharding",
    "reshard": "eventray.store.resharding",
    "RestoreReport": "eventray.store.restoring",
    "restore": "eventray.store.restoring",
    "Shard": "eventray.store.shard",
    "EventStore": "eventray.store.store",
    "VerifyReport": "eventray.store.verification",
    "verify": "eventray.store.verification",
    "Problem": "eventray.store.verify_shard",
    "ShardReport": "eventray.store.verify_shard",
}
__getattr__, __dir__ = lazily(globals(), _LAZY)
