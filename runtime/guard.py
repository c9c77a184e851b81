"""Marks the running of users' domain code, so that a call into the runtime from there is refused at once."""

from __future__ import annotations

import threading


class _Here(threading.local):
    name: str | None = None


_here = _Here()


class DomainCode:
    """`with DomainCode("Account.deposit"):` around commands, applies and queries; `name` may change on the way."""

    __slots__ = ("_before", "_name")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> DomainCode:
        self._before = _here.name
        _here.name = self._name
        return self

    def __exit__(self, *_: object) -> None:
        _here.name = self._before

    @staticmethod
    def now(name: str) -> None:
        """Say what runs from here on."""
        _here.name = name


def refuse_in_domain_code(call: str) -> None:
    """Raise when the calling thread runs a command, an apply or a query.

    Raises:
        RuntimeError: naming both.
    """
    if _here.name is not None:
        raise RuntimeError(
            f"{call} inside {_here.name}: commands, applies and queries are pure. "
            "Return events, and let the caller or a process send the next command."
        )
