"""Own: what each class of a user has for itself, whatever its base has."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Own(Generic[T]):
    """A class variable that is set by `set_own` and never inherited.

    A class that travels by value (of a script, of a notebook) is made anew on arrival without its keywords, then given
    the attributes that are not the same objects as its base's: a name that both have would be lost. So these are kept
    in a dict of each class.
    """

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, instance: object, cls: type[Any]) -> T:
        try:
            value: T = vars(cls)["__own__"][self._name]
        except KeyError:
            raise AttributeError(f"{cls.__name__} has no {self._name}") from None
        return value


def set_own(cls: type[Any], **values: Any) -> None:
    """Set all of a class's own variables, without the underscores around their names."""
    cls.__own__ = {f"__{name}__": value for name, value in values.items()}
