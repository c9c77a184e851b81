"""Calls to Ray actors: their errors as ours, and the remote ends of a shard and of the checkpoints."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import ray
from ray import cloudpickle
from ray.exceptions import ActorUnschedulableError, NodeDiedError, ObjectLostError, RayActorError, RayError
from ray.util import list_named_actors

from eventray.domain.errors import EventRayError, ShardUnavailable
from eventray.runtime.channel import TargetLost
from eventray.runtime.units import Unit
from eventray.runtime.wire import Batch, BatchRefused, Reply, pack_batch, unpack_page, unpack_reply
from eventray.runtime.wire_shard import Append, pack_append, unpack_loaded, unpack_result
from eventray.store.records import (
    BatchResult,
    Committed,
    DuplicateCommands,
    Loaded,
    NewCommand,
    Record,
    ShardPage,
    Snapshot,
    StoredLetter,
)

P = ParamSpec("P")
T = TypeVar("T")

Locate = Callable[[int], Awaitable[Any]]  # the actor of a shard; ShardUnavailable when it is lost, TargetLost
LOST = (RayActorError, ActorUnschedulableError, NodeDiedError, ObjectLostError)  # the actor, its node, or the answer

pickled: Callable[[object], bytes] = cloudpickle.dumps  # for the wire between processes only, never for a disk

DIRECTORY = "directory"  # the name of its actor
RETRY_FIRST_S = 0.02
RETRY_MOST_S = 0.5
LOST_S = 45.0  # above `poll_s`, the longest that any call is meant to take
ANSWER_S = 10.0  # what does not tell its status by then is reported as unavailable
PATIENCE_S = 30.0  # an actor that crashed is back within a second or two


def answered(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[tuple[bool, Any]]]:
    """Make an actor's method return (True, value), or (False, error): so errors arrive as what they are."""

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> tuple[bool, Any]:
        try:
            return True, await method(*args, **kwargs)
        except (EventRayError, TargetLost, DuplicateCommands, BatchRefused, ValueError, TypeError) as error:
            return False, pickled(error)

    return wrapper


async def call(method: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a method marked `answered` of an actor, once.

    A call can hang for good: to a process that is frozen, and once one that left while its actor came back neither
    arrived nor failed. So none is waited for longer than `LOST_S`; all of them may safely be made again.

    Raises:
        TargetLost: the actor is dead, closed, restarting or out of reach, or has not answered; whether it ran the call
            is not known.
        EventRayError, DuplicateCommands, BatchRefused, ValueError, TypeError: what it raised.
    """
    return await _answer(method.remote(*args, **kwargs), LOST_S)


async def call_to_the_end(method: Any, *args: Any) -> Any:
    """As `call`, for what may take long: waits as long as the actor lives (one that is frozen is ended)."""
    return await _answer(method.remote(*args), None)


async def _answer(reference: Any, timeout_s: float | None) -> Any:
    try:
        good, value = await asyncio.wait_for(reference, timeout_s)
    except LOST as error:
        raise TargetLost(f"{type(error).__name__}: {str(error).splitlines()[0]}") from None
    except TimeoutError:
        raise TargetLost(f"no answer within {timeout_s:g} s") from None
    if good:
        return value
    raise load_error(value)


async def call_patiently(method: Any, *args: Any, patience_s: float = PATIENCE_S, **kwargs: Any) -> Any:
    """Call a method that may safely run twice, again and again while its actor is out of reach.

    Raises:
        TargetLost: it was so for `patience_s`.
        EventRayError, DuplicateCommands, ValueError, TypeError: what the method raised.
    """
    return await patiently(lambda: call(method, *args, **kwargs), patience_s)


async def patiently(attempt: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Try again and again while it ends in `TargetLost`; raises that after `patience_s`."""
    deadline = time.monotonic() + patience_s
    delay = RETRY_FIRST_S
    while True:
        try:
            return await attempt()
        except TargetLost:
            if time.monotonic() + delay > deadline:
                raise
        await asyncio.sleep(delay)
        delay = min(RETRY_MOST_S, delay * 2)


def dump_error(error: BaseException) -> bytes:
    """An error as bytes for the wire (never for a disk)."""
    try:
        return pickled(error)
    except Exception:  # a cause or an attribute that cannot travel: the message still can
        return pickled(EventRayError(f"{type(error).__name__}: {error}"))


def load_error(data: bytes) -> BaseException:
    """The error in `data`."""
    error = cloudpickle.loads(data)
    return error if isinstance(error, BaseException) else EventRayError(repr(error))


class ActorChannel:
    """A target that is an actor; `epoch` names its incarnation."""

    def __init__(self, actor: Any, epoch: int) -> None:
        self.epoch = epoch
        self._actor = actor

    @classmethod
    async def open(cls, actor: Any, client: str) -> ActorChannel:
        """Greet the actor; TargetLost."""
        return cls(actor, await call(actor.hello, client))

    async def submit(self, batch: Batch) -> Reply:
        """Send a batch in one call."""
        return unpack_reply(await call(self._actor.submit, pack_batch(batch)), load_error)

    async def collect(self, client: str, number: int) -> Reply:
        """The next part of its answers."""
        return unpack_reply(await call(self._actor.collect, client, number), load_error)


class RemoteShard:
    """A shard in another process: the methods of `ShardPort`, which do there what they say.

    A call that fails on the way is sent again until `patience_s`, to wherever the shard is then: reads can be repeated,
    and an append carries the ids and the version by which its shard recognises it. A shard that is lost ends the call
    at once, in `ShardUnavailable`. `close` closes this end only.

    Args:
        actor: where it was last seen; None: it has to be located first.
    """

    def __init__(self, index: int, locate: Locate, patience_s: float, actor: Any = None) -> None:
        self.index = index
        self._locate = locate
        self._actor = actor
        self._patience_s = patience_s
        self._closed = False

    async def append_batch(
        self,
        stream: str,
        commands: Sequence[NewCommand],
        *,
        expected_version: int | None = None,
        token: int | None = None,
        lookups: Sequence[str] = (),
    ) -> BatchResult:
        """Several commands' events in one commit."""
        data = pack_append(Append(stream, commands, expected_version, token, lookups))
        if data is not None:
            return unpack_result(await self._send("append", data))
        return await self._call(  # type: ignore[no-any-return]  # to be refused
            "append_batch", stream, commands, expected_version=expected_version, token=token, lookups=lookups
        )

    async def load(
        self, stream: str, *, fingerprint: str | None = None, take_over: bool = False, limit: int = 2000
    ) -> Loaded:
        """Snapshot and first page of events of a stream."""
        options = {"fingerprint": fingerprint, "take_over": take_over, "limit": limit}
        return unpack_loaded(await self._call("load", stream, **options))

    async def read_stream(
        self, stream: str, *, after: int = 0, until: int | None = None, reverse: bool = False, limit: int
    ) -> Sequence[Record]:
        """One page of a stream."""
        return await self._call("read_stream", stream, after=after, until=until, reverse=reverse, limit=limit)  # type: ignore[no-any-return]

    async def read(
        self, *, after: int, limit: int = 1000, wait: float = 0.0, types: frozenset[str] | None = None
    ) -> ShardPage:
        """The next page of the shard's log."""
        return unpack_page(await self._call("read", after=after, limit=limit, wait=wait, types=types))

    async def lookup(self, stream: str, command_ids: Sequence[str]) -> dict[str, Committed]:
        """What those of the ids did that are committed."""
        return await self._call("lookup", stream, command_ids)  # type: ignore[no-any-return]

    async def version_at(self, stream: str, recorded_at_us: int) -> int:
        """The version of a stream at a time (microseconds UTC)."""
        return int(await self._call("version_at", stream, recorded_at_us))

    async def position_at(self, recorded_at_us: int) -> int:
        """The shard's last position at a time (microseconds UTC)."""
        return int(await self._call("position_at", recorded_at_us))

    async def save_snapshot(self, stream: str, *, version: int, data: bytes, fingerprint: str = "") -> None:
        """Keep the state at `version`."""
        await self._call("save_snapshot", stream, version=version, data=data, fingerprint=fingerprint)

    async def load_snapshot(self, stream: str) -> Snapshot | None:
        """The snapshot as it was saved."""
        return await self._call("load_snapshot", stream)  # type: ignore[no-any-return]

    async def streams(self, *, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """A page of the names of streams."""
        return await self._call("streams", prefix=prefix, after=after, limit=limit)  # type: ignore[no-any-return]

    async def fetch_head(self) -> int:
        """The shard's last position."""
        return int(await self._call("fetch_head"))

    async def park(self, consumer: str, position: int, reason: str) -> None:
        """Keep an event as a dead letter."""
        await self._call("park", consumer, position, reason)

    async def unpark(self, consumer: str, positions: Sequence[int]) -> None:
        """Forget dead letters."""
        await self._call("unpark", consumer, tuple(positions))

    async def dead_letters(self, consumer: str, *, after: int = 0, limit: int = 1000) -> list[StoredLetter]:
        """A page of a consumer's dead letters."""
        return await self._call("dead_letters", consumer, after=after, limit=limit)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Make no more calls; the shard goes on."""
        self._closed = True

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return await self._send("call", method, *args, **kwargs)

    async def _send(self, how: str, *args: Any, **kwargs: Any) -> Any:
        if self._closed:
            raise ShardUnavailable(self.index, "this end of it is closed")

        async def attempt() -> Any:
            if self._actor is None:
                self._actor = await self._locate(self.index)
            try:
                return await call(getattr(self._actor, how), *args, **kwargs)
            except TargetLost:
                self._actor = None
                raise

        try:
            return await patiently(attempt, self._patience_s)
        except TargetLost as error:
            raise ShardUnavailable(self.index, str(error)) from None


def find_actor(name: str, namespace: str) -> Any | None:
    """A live or restarting actor by its name, or None."""
    try:
        return ray.get_actor(name, namespace=namespace)
    except (ValueError, RayError):
        return None


def locating(app_name: str) -> Locate:
    """Finds an app's shards from a process that knows its name only, such as a Ray task."""

    async def locate(shard: int) -> Any:
        directory = find_actor(DIRECTORY, app_name)
        if directory is None:
            raise TargetLost(f"app {app_name!r} does not answer")
        return await call(directory.locate, shard)

    return locate


def is_gone(name: str, namespace: str) -> bool:
    """Whether there surely is no actor of that name; a Ray that is too busy to say does not count."""
    try:
        ray.get_actor(name, namespace=namespace)
    except ValueError:
        return True
    except RayError:
        return False
    return False


async def ask_status(actor: Any) -> Any:
    """How a part of an app stands, as it says itself; the error when it does not answer in time."""
    try:
        return await asyncio.wait_for(call(actor.status), ANSWER_S)
    except (TargetLost, EventRayError, TimeoutError) as error:
        return error


async def manage_unit(actor: Any, unit: Unit, method: str, *args: Any) -> Any:
    """Call a method of a unit of a view that is no query, once.

    Raises:
        EventRayError: what it raised, or that its process was lost meanwhile: the outcome is not known.
    """
    try:
        return await call_to_the_end(actor.manage, method, *args)
    except TargetLost as error:
        raise EventRayError(f"view {unit} was lost while it did this; look, and do it again: {error}") from None


async def names_of(app_name: str) -> list[str]:
    """The names of an app's actors, as Ray has them now."""
    entries = await asyncio.to_thread(list_named_actors, True)
    return [entry["name"] for entry in entries if entry["namespace"] == app_name]


async def end_all(namespace: str, names: Callable[[str], bool]) -> None:
    """End the actors of these names for good, and wait until the names are free."""
    while True:
        left = [name for name in await names_of(namespace) if names(name)]
        if not left:
            return
        for actor in filter(None, (find_actor(name, namespace) for name in left)):
            kill(actor)
        await asyncio.sleep(RETRY_FIRST_S)


def kill(actor: Any) -> None:
    """End an actor for good; its name is free then."""
    with contextlib.suppress(RayError, ValueError):
        ray.kill(actor, no_restart=True)
