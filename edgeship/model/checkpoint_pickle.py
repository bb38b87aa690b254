"""A pickle read as data: a stack machine for the operations that make values; nothing in the file is ever called.

Python's own Unpickler imports and calls what a file names, and lets it set attributes of what came of it. Here a
name stays a `Name`, a call is answered from the caller's table, and every other operation is refused.
(The operations: Lib/pickletools.py, which documents the format.)
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO


class NotDataError(ValueError):
    """The pickle asks for something that plain data does not need; the message says what."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Ignored:
    """An object that holds nothing of use here; its state is dropped."""


Answers = dict[str, Callable[..., Any]]  # "module.name" -> what a call of it gives

_PUSHED = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NO_MEANING = frozenset({"PROTO", "FRAME"})


def read_pickle(
    stream: BinaryIO,
    *,
    answers: Answers,
    is_value: Callable[[Name], bool] = lambda name: False,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle; `stream` is left behind it.

    Args:
        stream: held in memory, so that a length that the file makes up reads no more than is there.
        answers: the calls a file may ask for; ours are made instead.
        is_value: which names may stand in the data as they are, without being called.
        persistent: the object of a persistent id; without it there must be none.

    Raises:
        NotDataError: a name, a call or an operation that the caller did not allow.
        ValueError, IndexError, KeyError, TypeError ...: damaged bytes.
    """
    machine = _Machine(answers, is_value, persistent)
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "STOP":
            break
        machine.step(operation.name, argument)
    return machine.stack.pop()


class _Machine:
    """The stack, the stacks that marks put aside, and the memo."""

    def __init__(
        self, answers: Answers, is_value: Callable[[Name], bool], persistent: Callable[[Any], Any] | None
    ) -> None:
        self.answers, self.is_value, self.persistent = answers, is_value, persistent
        self.stack: list[Any] = []
        self.aside: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack[-_TUPLES[name]:] = [tuple(self.stack[-_TUPLES[name]:])]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name not in _NO_MEANING:
            operation = getattr(self, f"_{name.lower()}", None)
            if operation is None:
                raise NotDataError(f"it holds the operation {name}, which no weight needs")
            operation(argument)

    def _memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _mark(self, _: None) -> None:
        self.aside.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.aside.pop()
        return items

    def _tuple(self, _: None) -> None:
        items = tuple(self._since_mark())
        self.stack.append(items)

    def _append(self, _: None) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise NotDataError(f"it appends to {type(self.stack[-1]).__name__}, which is no list")
        self.stack[-1].extend(items)

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self, _: None) -> None:
        self._update(self._since_mark())

    def _update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise NotDataError(f"it sets items of {type(self.stack[-1]).__name__}, which is no dict")
        keys = items[::2]
        if not all(isinstance(key, str | int | float | bytes) for key in keys):
            raise NotDataError("a key of a dict is neither text nor a number")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(Name(module, name))

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(Name(str(module), str(name)))

    def _name(self, name: Name) -> None:
        if str(name) not in self.answers and not self.is_value(name):
            raise NotDataError(f"it asks for {name}, which no weight needs")
        self.stack.append(name)

    def _reduce(self, _: None) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Name) or str(called) not in self.answers or type(arguments) is not tuple:
            raise NotDataError(f"it calls {called if isinstance(called, Name) else type(called).__name__}")
        self.stack.append(self.answers[str(called)](*arguments))

    _newobj = _reduce

    def _build(self, _: None) -> None:
        """Set an object's state. Of a dict it would be attributes (torch keeps layer versions there): dropped."""
        self.stack.pop()
        if type(self.stack[-1]) not in (dict, Ignored):
            raise NotDataError(f"it sets the state of {type(self.stack[-1]).__name__}")

    def _binpersid(self, _: None) -> None:
        if self.persistent is None:
            raise NotDataError("it refers to data outside itself")
        self.stack.append(self.persistent(self.stack.pop()))
