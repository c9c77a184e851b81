"""Runtime: what `run` and `connect` return. A user's way to an app, sync and async alike."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar, cast

from eventray.domain.aggregate import Aggregate
from eventray.domain.errors import AppEnded, UnknownName
from eventray.domain.messages import Command, CommandOptions, Event, Heads, Receipt
from eventray.domain.projection import Projection
from eventray.runtime.app import App
from eventray.runtime.asking import Answer, Asking, Question
from eventray.runtime.channel import Channel
from eventray.runtime.chosen import check_events
from eventray.runtime.config import Config
from eventray.runtime.dataset import HistoryAsData
from eventray.runtime.dead_letters import DeadLetters
from eventray.runtime.guard import refuse_in_domain_code
from eventray.runtime.handles import (
    After,
    AggregateHandle,
    QueryOptions,
    ViewHandle,
    check_instance_id,
    positions_after,
)
from eventray.runtime.jobs import CommandIds, CommandJob, encode_metadata
from eventray.runtime.loop import EngineLoop
from eventray.runtime.model import (
    AggregateModel,
    CommandModel,
    ProjectionModel,
    QueryModel,
    aggregate_model,
    projection_model,
)
from eventray.runtime.pages import Pages
from eventray.runtime.rebuilding import Rebuilding
from eventray.runtime.recorded import Recorded, recorded
from eventray.runtime.response import Response
from eventray.runtime.router import Router
from eventray.runtime.sending import SendAll
from eventray.runtime.status import Status
from eventray.runtime.subscription import Subscription
from eventray.runtime.timetravel import state_at
from eventray.runtime.transport import Transport
from eventray.runtime.wire import CommandItem, QueryItem
from eventray.store.port import ShardPort
from eventray.store.records import check_id

A = TypeVar("A", bound=Aggregate)
V = TypeVar("V", bound=Projection)
T = TypeVar("T")


class Runtime(HistoryAsData, Rebuilding):
    """A running app. It starts in the background; `with` and `async with` wait until it serves.

    Calls made before it serves wait for it, and fail with what its start failed with.
    """

    def __init__(self, app_name: str, app: App | None, transport: Transport, config: Config) -> None:
        self.app_name = app_name
        self._app = app  # None: known to the running app only
        self.config = config
        self._transport = transport
        self._client = uuid.uuid4().hex
        self._ids = CommandIds()
        self._router = Router(self._client, self._connect, config)
        self._engine = EngineLoop(app_name, self._router)
        self._ended: Response[None] | None = None
        self._aggregates: dict[type[Any], AggregateModel] = {}
        self._projections: dict[type[Any], ProjectionModel] = {}
        if app is not None:
            self._aggregates = {model.cls: model for model in app.aggregates.values()}
            self._projections = {model.cls: model for model in app.projection_models}
        self._started: Response[None] = self._engine.spawn(self._start())
        self._asking = Asking(self._engine, self._started, transport)

    async def _start(self) -> None:
        try:
            await asyncio.wait_for(self._transport.start(), self.config.start_timeout_s)
        except Exception as error:
            self._engine.refuse(error)
            raise
        self._engine.open(lambda job: job.target(self._transport))

    async def _connect(self, target: Hashable) -> Channel:
        return await self._transport.connect(target, self._client)

    # life

    def wait(self, timeout: float | None = None) -> Runtime:
        """Wait until the app serves.

        Raises:
            EventRayError: it could not start.
        """
        self._started.result(timeout)
        return self

    def __enter__(self) -> Runtime:
        try:
            return self.wait()
        except BaseException:
            self._close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the app, as the end of `with` does: an app that is not detached ends with the one who started it."""
        self._leave().result()
        self._close()

    async def __aenter__(self) -> Runtime:
        try:
            await self._started
        except BaseException:
            await asyncio.to_thread(self._close)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        await self._leave()
        await asyncio.to_thread(self._close)

    @property
    def ended(self) -> bool:
        """Whether this runtime was left or shut down."""
        return self._ended is not None

    def shutdown(self) -> Response[None]:
        """Drain and end the app: what was sent is answered, views are saved, files closed. Its files stay."""
        return self._end(app=True)

    def _leave(self) -> Response[None]:
        return self._end(app=False)

    def _end(self, *, app: bool) -> Response[None]:
        if self._ended is None:
            self._ended = self._engine.spawn(self._shut(app))
        return self._ended

    async def _shut(self, app: bool) -> None:
        ended = AppEnded(self.app_name)
        self._engine.refuse(ended)  # from now on; what was sent before is answered
        await self._router.drained(self.config.drain_s)
        await (self._transport.shutdown() if app else self._transport.leave())
        self._router.close(ended)

    def _close(self) -> None:
        if self._ended is None:  # it did not start: there is nothing to leave
            self._ended = Response()
            self._ended.set_result(None)
        self._engine.close()
        close = getattr(self._transport, "close", None)
        if close is not None:
            close()

    # commands and queries

    def get(self, aggregate: type[A], id: str) -> A:
        """A handle of one instance: `runtime.get(Account, "alice").deposit.remote(5)`.

        Raises:
            InvalidId: the id is empty, over 1,024 bytes, or no text.
            UnknownName: the app has no such aggregate.
        """
        check_id(check_instance_id(id))
        return cast(A, AggregateHandle(self, self._aggregate(aggregate), id))

    def view(self, projection: type[V], version: int | None = None) -> V:
        """A handle of a projection's view: `runtime.view(Balances).top.remote(5)`.

        Its version that serves answers, or, if you name one, that `version`, also in the shadow.

        Raises:
            UnknownName: the app has no such projection; with the Answer: not in that version.
        """
        return cast(V, ViewHandle(self, self._projection(projection), version or 0))

    def send(self, command: Command) -> Response[Receipt]:
        """Send a command that was made as a value, by `Account.deposit.to(...)`.

        Raises:
            InvalidId, UnknownName, TypeError, EncodingError: what is wrong with it.
        """
        return self._send(command, patient=False)

    def _send(self, command: Command, *, patient: bool) -> Response[Receipt]:
        refuse_in_domain_code("runtime.send()")
        check_id(check_instance_id(command.id))
        model = self._aggregate(command.aggregate)
        command_model = model.commands.get(command.name)
        if command_model is None:
            raise UnknownName("command", f"{model.name}.{command.name}", tuple(model.commands))
        args = command_model.encode(command.args, command.kwargs)
        return self.send_command(model, command.id, command_model, args, command.options, patient=patient)

    def send_all(self, commands: Iterable[Command], progress: bool = False) -> SendAll:
        """Send many commands, as many at once as is good; iterate (`for` or `async for`) over what each came to.

        It waits for room where a single command would end in `Overloaded`, and gives, in order, a Receipt or
        the EventRayError of each. Nothing is sent before the first step.
        """
        return SendAll(functools.partial(self._send, patient=True), commands, self.config, progress)

    def send_command(
        self,
        model: AggregateModel,
        id: str,
        command: CommandModel,
        args: bytes,
        options: CommandOptions,
        *,
        patient: bool = False,
    ) -> Response[Receipt]:
        """Put an encoded command on its way (what handles call); a `patient` one waits for room at its instance."""
        timeout = self.config.command_timeout_s if options.timeout is None else options.timeout
        item = CommandItem(
            model.name,
            id,
            command.name,
            args,
            options.command_id or self._ids.make(),
            options.command_id is not None,
            options.expected_version,
            encode_metadata(options.metadata),
        )
        job = CommandJob(model, item, timeout, patient=patient)
        self._engine.post(job)
        return job.response

    def send_query(self, model: ProjectionModel, query: QueryModel, args: bytes, options: QueryOptions) -> Answer[Any]:
        """Put an encoded query on its way (what handles call)."""
        after, timeout_s, stale, version = options
        wait_s = self.config.query_timeout_s if timeout_s is None else timeout_s
        item = QueryItem(query.name, args, *positions_after(after), wait_s, stale == "serve", version > 0)
        return self._asking.ask(Question(model.name, query, item, version), partitions=model.partitions)

    # history and time travel

    def history(self, aggregate: type[Aggregate], id: str) -> Pages[Recorded]:
        """Every event of an instance in order, as (event, meta), for `for` and `async for`; read page by page.

        Raises:
            InvalidId, UnknownName: at once. UnknownEvent, EncodingError: where an event is met that no class stands
            for, or that does not decode.
        """
        check_id(check_instance_id(id))
        model = self._aggregate(aggregate)
        return Pages(lambda after: self._engine.spawn(self._history_page(model, id, after)), 0)

    async def _history_page(self, model: AggregateModel, id: str, after: int) -> tuple[Sequence[Recorded], int | None]:
        await self._started
        stream, limit = f"{model.name}/{id}", self.config.read_page_events
        records = await self._shard(stream).read_stream(stream, after=after, limit=limit)
        entries = recorded(model.events, records)
        return entries, entries[-1].meta.version if entries else None  # a page of large events is short, not the last

    def subscribe(
        self, events: Sequence[type[Event]] = (), *, name: str | None = None, after: After = None
    ) -> Subscription:
        """Events of these classes (all, if none is given) as they come, as (event, meta), for `for` and `async for`.

        Args:
            events: classes of the app; a base class stands for those derived from it.
            name: where the loop is, is kept under it; a later one of that name goes on there.
            after: where to begin if nothing is kept: a receipt, several, or `heads()`; shards that it does not name,
                and all without it, from their first event.

        Raises:
            TypeError, ValueError: at once. StoreMismatch: in the loop, for positions of another generation.
            UnknownEvent, EncodingError: in the loop, where an event is met that cannot be decoded.
        """
        check_events(events, "subscribe")
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"name={name!r}: a name, or None to keep nothing")
        return Subscription(self._engine, self._started, self._transport, self.config, events, name, after)

    def state(self, aggregate: type[A], id: str, at: int | datetime | None = None) -> Response[A]:
        """The state of an instance now, at a version, or at a moment (an aware datetime): a copy, folded from its log.

        An instance without events is at version 0 and in its first state. The Response fails with ValueError when
        the stream has fewer events than `at`, or for a naive datetime.

        Raises:
            InvalidId, UnknownName: at once.
        """
        check_id(check_instance_id(id))
        model = self._aggregate(aggregate)

        async def fold() -> A:
            await self._started
            shard = self._shard(f"{model.name}/{id}")
            return cast(A, await state_at(model, shard, id, at, self.config.read_page_events))

        return self._engine.spawn(fold())

    def heads(self) -> Response[Heads]:
        """The position of every shard now; `options(after=heads)` reads everything up to here."""

        async def ask() -> Heads:
            await self._started
            return Heads(await self._transport.heads(), self._transport.generation)

        return self._engine.spawn(ask())

    def status(self) -> Response[Status]:
        """Shards, views and activations, and how each stands."""

        async def ask() -> Status:
            await self._started
            return await self._transport.status()

        return self._engine.spawn(ask())

    def dead_letters(self, projection: type[Projection] | str) -> DeadLetters:
        """What a view (by its class or name) could not apply and left behind, to list, to retry, to drop."""
        name = projection if isinstance(projection, str) else self._projection(projection).name
        return DeadLetters(name, self._engine, self._started, self._transport)

    @property
    def app(self) -> App:
        """The app, once it serves.

        Raises:
            EventRayError: a class of it cannot be imported in this process.
        """
        return self._app or self._transport.app

    def on_shard(self, which: int | str, work: Callable[[ShardPort], Awaitable[T]]) -> Response[T]:
        """Run a coroutine over a shard (by its number, or by a stream that it holds), for tools: records as stored."""

        async def run() -> T:
            await self._started
            return await work(self._shard(which) if isinstance(which, str) else self._transport.shards[which])

        return self._engine.spawn(run())

    # names

    def _shard(self, stream: str) -> ShardPort:
        return self._transport.shards[self._transport.shard_of(stream)]

    def _aggregate(self, cls: type[Any]) -> AggregateModel:
        model = self._aggregates.get(cls)
        if model is None:
            name = _stored_name(cls, Aggregate, "__aggregate_name__")
            self._check_name("aggregate", name, self._app.aggregates if self._app else None)
            model = self._aggregates[cls] = aggregate_model(cls)
        return model

    def _projection(self, cls: type[Any]) -> ProjectionModel:
        model = self._projections.get(cls)
        if model is None:
            name = _stored_name(cls, Projection, "__projection_name__")
            self._check_name("projection", name, self._app.projections if self._app else None)
            model = self._projections[cls] = projection_model(cls, ())
        return model

    def _check_name(self, kind: str, name: str, known: Mapping[str, object] | None) -> None:
        if known is not None and name not in known:
            raise UnknownName(kind, name, tuple(known))


def _stored_name(cls: object, base: type[Any], attribute: str) -> str:
    if not isinstance(cls, type) or not issubclass(cls, base) or cls is base:
        raise TypeError(f"{cls!r} is not a class derived from {base.__name__}")
    return str(getattr(cls, attribute))
