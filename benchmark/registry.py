"""One kind of registry for everything that is chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from benchmark.errors import NameNotFound

Item = TypeVar("Item")


class Registry(Generic[Item]):
    """A registry of names; an unknown name is an error that suggests the nearest ones.

    Parameters
    ----------
    kind
        What is registered, in the singular, as it appears in messages: ``"observer"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, Item] = {}

    def register(self, name: str) -> Callable[[Item], Item]:
        """Return a decorator that registers what it decorates; a name can be taken only once."""

        def decorate(item: Item) -> Item:
            if name in self._items:
                raise ValueError(f"The {self.kind} {name!r} is registered already.")
            self._items[name] = item
            return item

        return decorate

    def __getitem__(self, name: str) -> Item:
        """Return the item with a name.

        Raises
        ------
        NameNotFound
            If nothing is registered under the name.
        """
        if name not in self._items:
            raise NameNotFound(self.kind, name, self._items)
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the order of registration."""
        return iter(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items
