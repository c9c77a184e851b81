"""Every limit and time of the engine in one place, the unit last in each name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from eventray.store.limits import MIB, WAL_BYTES_MAX, StoreLimits

POLL_MOST_S = 30.0
Durability = Literal["power", "os"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Limits and times of a runtime; pass fields as keywords to `eventray.run(...)`.

    Raises:
        ValueError: a limit or time that is not positive.
    """

    durability: Durability = "power"  # "os": a receipt survives a crash of the process, not a power cut
    check_purity: bool = False  # compare the whole state before and after each command (slow; for tests)

    command_timeout_s: float = 60.0  # then CommandTimeout: outcome unknown, send again with the same id
    query_timeout_s: float = 30.0  # then StaleView: the view did not reach the positions asked for
    drain_s: float = 10.0  # how long a shutdown waits for what is on its way
    start_timeout_s: float = 120.0  # an app that does not serve by then has failed to start
    unresponsive_s: float = 30.0  # an actor whose process has not run for so long is ended; another one takes over

    client_commands_max: int = 100_000  # and queries of one client, not yet answered; more: Overloaded
    client_bytes_max: int = 64 * MIB  # their arguments; more: Overloaded
    aggregate_commands_max: int = 20_000  # of one client to one instance, not yet answered; more: Overloaded
    send_all_commands_max: int = 16_384  # how many send_all keeps on the way
    batch_commands_max: int = 2_000  # commands in one call to an actor
    batch_bytes_max: int = 4 * MIB  # arguments in one call to an actor
    link_batches_max: int = 2  # calls that wait for their first reply: of one client, or one to each actor
    reply_first_s: float = 0.1  # a call to an actor waits so long for its first answer, ...
    reply_grace_s: float = 0.02  # ... and goes back when answers have paused for this time; the rest follows
    query_reply_s: float = 0.005  # both for queries: many may wait for events, and others must not wait for them
    poll_s: float = 20.0  # the longest that one call waits at an actor for news

    actor_commands_max: int = 100_000  # and queries of all clients that wait or run in one actor; more: Overloaded
    actor_bytes_max: int = 64 * MIB  # their arguments; more: Overloaded
    mailbox_commands_max: int = 20_000  # of all clients that wait for one instance; more: Overloaded
    view_queries_max: int = 10_000  # that wait until one view has applied what they ask for; more: Overloaded

    commit_commands_max: int = 1_000  # commands of one instance in one commit
    commit_bytes_max: int = 4 * MIB  # events of one command, encoded; a commit of an instance may have twice that
    command_events_max: int = 5_000  # events of one command; a commit of an instance may have twice that
    event_bytes_max: int = 1 * MIB  # one event, encoded, with its metadata
    shard_bytes_max: int = 64 * MIB  # events that wait for their commit at one shard; more: Overloaded
    snapshot_bytes_max: int = 256 * MIB  # one instance's state; above, it is loaded from its events
    wal_bytes_max: int = WAL_BYTES_MAX  # a shard's write-ahead log; above, it is emptied as soon as readers let it
    conflict_attempts_max: int = 5  # reloads after another writer's append, then ConcurrencyConflict
    slow_command_s: float = 1.0  # a command that computes longer without blocking=True is named in a warning
    blocking_threads_max: int = 256  # blocking commands that run at once in a shard's process; more wait
    load_page_events: int = 2_000  # events read at once when an instance is loaded

    read_page_events: int = 1_000  # events read at once by views, history and time travel
    tail_events_max: int = 10_000  # newest events of one shard that are kept for the views of a node; older: read anew
    tail_bytes_max: int = 16 * MIB  # their bytes
    checkpoint_events: int = 10_000  # a view saves itself after so many events ...
    checkpoint_s: float = 5.0  # ... or after this time, when it has applied any

    def __post_init__(self) -> None:
        if self.poll_s > POLL_MOST_S:
            raise ValueError(
                f"poll_s={self.poll_s!r}: at most {POLL_MOST_S:g}; a call that takes longer counts as lost"
            )
        if self.durability not in ("power", "os"):
            raise ValueError(f"durability={self.durability!r}: choose 'power' (the default) or 'os'")
        for name in self.__slots__:
            value = getattr(self, name)
            if name.endswith(("_s", "_max", "_events")) and value <= 0:
                raise ValueError(f"{name}={value!r}: must be above 0")
        if self.event_bytes_max > self.commit_bytes_max:
            raise ValueError(f"event_bytes_max={self.event_bytes_max}: above commit_bytes_max={self.commit_bytes_max}")

    @property
    def for_views(self) -> Config:
        """The same as views take it."""
        return replace(self, reply_first_s=self.query_reply_s, reply_grace_s=self.query_reply_s)

    @property
    def store_limits(self) -> StoreLimits:
        """The same limits as the store takes them."""
        defaults = StoreLimits()
        return StoreLimits(
            event_bytes_max=self.event_bytes_max,
            batch_bytes_max=2 * self.commit_bytes_max,
            batch_events_max=2 * self.command_events_max,
            pending_bytes_max=self.shard_bytes_max,
            page_records_max=max(defaults.page_records_max, self.load_page_events, self.read_page_events),
            snapshot_bytes_max=self.snapshot_bytes_max,
            wal_bytes_max=self.wal_bytes_max,
        )
