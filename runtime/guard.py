"""Marks the running of users' domain code, so that a call into the runtime from there is refused at once."""

from __future__ import annotations

import threading

_here = threading.local()


class DomainCode:
    """`with DomainCode("Account.deposit"):` around a command, an apply or a query."""

    __slots__ = ("_before", "_name")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._before = getattr(_here, "name", None)
        _here.name = self._name

    def __exit__(self, *_: object) -> None:
        _here.name = self._before


def refuse_in_domain_code(call: str) -> None:
    """Raise when the calling thread runs a command, an apply or a query.

    Raises:
        RuntimeError: naming both.
    """
    name = getattr(_here, "name", None)
    if name is not None:
        raise RuntimeError(
            f"{call} inside {name}: commands, applies and queries are pure. "
            "Return events, and let the caller or a process send the next command."
        )
