"""`verify`: a store, or a backup of one, proven from its first byte to its last, in parallel over its shards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from eventray.domain.errors import EventRayError, StoreCorrupted, StoreMismatch
from eventray.store import rows
from eventray.store.backups import BACKUP, ShardEnd, described, end_of, read_backup
from eventray.store.failures import FILE_ERRORS
from eventray.store.manifest import NAME, Manifest
from eventray.store.moving import shard_file
from eventray.store.parallel import Progress, side_by_side
from eventray.store.quiet import read_quietly
from eventray.store.verify_shard import Problem, ShardReport

_VIEWS = "views.db"
_CHECKPOINTS = "SELECT name, generation, fingerprint, positions, data, crc FROM checkpoints ORDER BY name"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found: `ok` without problems; each shard's last position and digest vouch for all before them."""

    directory: str
    app: str
    generation: int
    shards: tuple[ShardReport, ...]
    problems: tuple[Problem, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written."""
        return not self.problems

    @property
    def events(self) -> int:
        """How many events were read and proven."""
        return sum(shard.events for shard in self.shards)


def verify(
    directory: Path | str,
    *,
    against: Path | str | None = None,
    progress: Progress | None = None,
    processes: int | None = None,
) -> VerifyReport:
    """Prove a store, in use or not, or a backup: nothing is written, repaired or left behind.

    Recomputes every checksum and the chain of digests, the contiguity of positions and versions, where each stream
    belongs, and runs SQLite's own check; a changed, removed, inserted or reordered event is a `Problem` that names it.
    Whoever can write the files can also make the digests anew: `against` a backup of the same generation, kept
    elsewhere, shows that the history up to it is still the same. `progress("verify", done, total)` counts
    events; `processes` are as many as there are cores.

    Raises `StoreUnavailable` (there is no store, or it cannot be read), `StoreMismatch` (an older format, which opening
    migrates; `against` is of another store or generation). What cannot be read because it is damaged is a problem, not
    an error.
    """
    started = time.monotonic()
    directory = Path(directory)
    try:
        manifest = described(directory)
    except EventRayError as error:
        if not (directory / NAME).exists() and not (directory / BACKUP).exists():
            raise
        problem = Problem(NAME if (directory / NAME).exists() else BACKUP, str(error))
        return VerifyReport(str(directory), "", 0, (), (problem,), time.monotonic() - started)
    manifest.require_current()
    anchors = _anchors(manifest, against)
    files = {index: directory / shard_file(index, "db") for index in range(manifest.shards)}
    made = [index for index in files if manifest.state_of(index) == "created" or files[index].exists()]
    found = side_by_side(
        "eventray.store.verify_shard:verify_shard",
        [{"directory": str(directory), "shard": index, "anchor": anchors.get(index)} for index in made],
        phase="verify",
        total=sum(_position(files[index]) for index in made),
        progress=progress,
        processes=processes,
    )
    shards = tuple(map(ShardReport.parsed, found))
    problems = [problem for shard in shards for problem in shard.problems]
    problems += _checkpoint_problems(manifest, {shard.shard: shard.position for shard in shards})
    return VerifyReport(
        str(directory), manifest.app, manifest.generation, shards, tuple(problems), time.monotonic() - started
    )


def require_sound(directory: Path | str, *, progress: Progress | None = None) -> VerifyReport:
    """Return the report of `verify`; raises `StoreCorrupted` naming the first problem, when there is any."""
    report = verify(directory, progress=progress)
    if report.problems:
        first = report.problems[0]
        raise StoreCorrupted(
            str(Path(directory) / first.where),
            f"{first} ({len(report.problems)} problems)",
            first.stream,
            first.version,
        )
    return report


def _anchors(manifest: Manifest, against: Path | str | None) -> dict[int, tuple[int, str]]:
    ends: list[ShardEnd] = []
    if against is not None:
        seen, ends, _ = read_backup(against)
        for what in ("store_id", "generation"):
            if getattr(seen, what) != getattr(manifest, what):
                raise StoreMismatch(str(against), what, getattr(manifest, what), getattr(seen, what))
    elif (manifest.directory / BACKUP).exists():
        ends = read_backup(manifest.directory)[1]
    return {index: (end.position, end.digest) for index, end in enumerate(ends)}


def _position(path: Path) -> int:
    try:
        return read_quietly(path, end_of)[0]
    except FILE_ERRORS:
        return 0  # only for the progress: its damage is told by the work itself


def _checkpoint_problems(manifest: Manifest, positions: dict[int, int]) -> list[Problem]:
    path = manifest.directory / _VIEWS
    try:
        found = read_quietly(path, lambda connection: connection.execute(_CHECKPOINTS).fetchall())
    except FileNotFoundError:
        return []
    except FILE_ERRORS as error:
        return [Problem(_VIEWS, f"it cannot be read ({error})")]
    problems = []
    for name, generation, fingerprint, stored, data, crc in found:
        try:
            intact = rows.checkpoint_checksum(name, generation, fingerprint, stored, [data]) == crc
        except TypeError:
            intact = False
        if not intact:
            problems.append(Problem(_VIEWS, f"the checkpoint {name!r} does not fit its checksum"))
    return problems
