"""Dicts and lists of an optimizer that tell compiled steps when they are changed."""

from __future__ import annotations

import functools
from typing import Any, Self

from ..slot import changed, lasts


class Group(dict[str, Any]):
    """Parameters and options of a group, or the state of a parameter: a dict that tells compiled steps what is set."""

    tells_items = True

    def __setitem__(self, name: str, value: Any) -> None:
        lasts([value])
        super().__setitem__(name, value)
        changed()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several options."""
        new = dict(*args, **kwargs)
        lasts(new.values())
        super().update(new)
        changed()

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, name: str, value: Any = None) -> Any:
        """The option of this name, which is set where it is not there."""
        if name not in self:
            self[name] = value
        return self[name]


class Telling(list[Any]):
    """A list of groups, parameters or states that lets compiled steps know when it is changed."""


def _telling(kind: type, name: str) -> Any:
    change = getattr(kind, name)

    @functools.wraps(change)
    def tell(self: Any, *args: Any, **options: Any) -> Any:
        changed()
        return change(self, *args, **options)

    return tell


CHANGES = ["append", "extend", "insert", "pop", "remove", "clear", "reverse", "__setitem__", "__delitem__", "__iadd__"]
for _name in CHANGES:
    setattr(Telling, _name, _telling(list, _name))
for _name in ("__delitem__", "pop", "popitem", "clear"):
    setattr(Group, _name, _telling(dict, _name))
