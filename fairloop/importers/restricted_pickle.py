"""Pickled pair lists, read without unpickling: lists, tuples, bytes, booleans, numbers, arrays, nothing else.

A pickle is a program. This is a small machine for the few instructions that
such data need. It looks nothing up and calls nothing: the four functions by
which numpy and Python 2 write their values are known by name and done here.
Bytes of 64 and more stay in the file, as `Span`s, so memory does not grow with
the images, nor with what a pickle says that it holds.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.importers.contents import Contents

MOST_BYTES = 4 * 2**30
MOST_STEPS = 5_000_000
"""Instructions: an image takes three to ten."""
MOST_AT_ONCE = 512 * 2**20
"""Bytes of one value: more than an image may have, so that one too large is told by its number."""
SMALLEST_SPAN = 64
_KINDS = {"u1": np.uint8, "b1": np.bool_, "i1": np.int8, "i8": np.int64, "i4": np.int32}
_BYTES_HEAD = {
    "BINBYTES": 5, "SHORT_BINBYTES": 2, "BINBYTES8": 9, "BINSTRING": 5, "SHORT_BINSTRING": 2, "BYTEARRAY8": 9,
}  # fmt: skip
"""Instructions that carry bytes → bytes of the instruction before them (pickletools)."""
_NUMBERS = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"})
_TEXTS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE"})


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the file: from `offset` on, `size` of them."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Name:
    """A function or class that a pickle names; one of `_NAMES`."""

    name: str


class _Array:
    """An array whose state has not come yet."""

    value: NDArray[Any] | Span | None = None


class _Kind:
    """A numpy data type of one of `_KINDS`."""

    def __init__(self, code: str) -> None:
        self.code = code


_MARK = object()
_NAMES = {
    f"{module} {name}": name
    for module, name in (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    )
}


def load(contents: Contents) -> Any:
    """What a pickled file holds; bytes of 64 and more, and arrays of such, as `Span`s.

    Read from its beginning to its end, one value in memory at a time. Raises
    `InvalidInput` naming the file for anything but plain data, with the
    instruction and its place; for a file over 4 GiB, a value over 512 MiB or five
    million instructions; and when the file cannot be read or is another meanwhile.
    """
    if contents.size > MOST_BYTES:
        raise InvalidInput(contents.name, f"has {contents.size:,} bytes; at most {MOST_BYTES:,}")
    try:
        source = contents.source()
        raw = source.open("rb", buffering=0) if isinstance(source, Path) else source
        with _Capped(raw, 2**20) as file:
            return _Machine(contents.name, file).run()
    except OSError as error:
        raise InvalidInput(contents.name, f"cannot be read ({error.strerror or error})") from error


class _Capped(io.BufferedReader):
    """A file of which a pickle cannot ask for more at once than `MOST_AT_ONCE`."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MOST_AT_ONCE:
            raise ValueError(f"a value of {size or 0:,} bytes; at most {MOST_AT_ONCE:,}")
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(MOST_AT_ONCE)  # cut there, it has no end, which pickletools notices


class _Machine:
    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name, self._file = name, file
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._at = 0

    def run(self) -> Any:
        steps = pickletools.genops(self._file)
        for _ in range(MOST_STEPS):
            try:
                opcode, argument, place = next(steps)
            except (ValueError, StopIteration, UnicodeDecodeError, MemoryError, OverflowError) as error:
                raise self._wrong(f"is no whole pickle ({str(error)[:100] or 'it ends early'})") from None
            self._at = place or 0
            if opcode.name == "STOP":
                return self._result()
            try:
                self._step(opcode.name, argument)
            except (IndexError, KeyError, TypeError, AttributeError, UnicodeError) as error:
                raise self._wrong(f"is no whole pickle ({opcode.name} finds nothing to work on)") from error
        raise self._wrong(f"has more than {MOST_STEPS:,} instructions")

    def _wrong(self, what: str) -> InvalidInput:
        return InvalidInput(self._name, f"{what}, at byte {self._at:,}")

    def _result(self) -> Any:
        if len(self._stack) != 1:
            raise self._wrong("is no whole pickle (it does not end with one value)")
        return self._stack[0]

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _BYTES_HEAD:
            stack.append(self._bytes(name, argument))
        elif name in _NUMBERS or name in _TEXTS:
            stack.append(argument)
        elif name in _SIMPLE:
            _SIMPLE[name](self)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[int(argument)])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._global(argument)
        else:
            raise self._wrong(
                f"holds the instruction {name}; only lists, tuples, bytes, booleans and arrays do"
            )

    def _bytes(self, name: str, argument: Any) -> bytes | Span:
        data = argument.encode("latin-1") if isinstance(argument, str) else bytes(argument)
        if len(data) < SMALLEST_SPAN:
            return data
        return Span(self._at + _BYTES_HEAD[name], len(data))

    def _global(self, argument: str | None) -> None:
        if argument is None:
            name, module = self._stack.pop(), self._stack.pop()
            if not isinstance(name, str) or not isinstance(module, str):
                raise TypeError
            argument = f"{module} {name}"
        if argument not in _NAMES:
            raise self._wrong(
                f"calls for {argument[:80]!r}; only lists, tuples, bytes and numpy arrays are read"
            )
        self._stack.append(_Name(_NAMES[argument]))

    def take_marked(self) -> list[Any]:
        """Takes everything down to the last mark off the stack, and the mark."""
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError
        taken = self._stack[place + 1 :]
        del self._stack[place:]
        return taken

    def append(self) -> None:
        value = self._stack.pop()
        self._list().append(value)

    def appends(self) -> None:
        values = self.take_marked()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        found = self._stack[-1]
        if not isinstance(found, list):
            raise TypeError
        return found

    def reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise self._wrong("calls something that is no numpy array")
        self._stack.append(self._called(function.name, arguments))

    def _called(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if (
            name == "encode"
            and isinstance(arguments[0], str)
            and arguments[1:] in (("latin1",), ("latin-1",))
        ):
            return arguments[0].encode("latin-1")
        if name == "dtype" and isinstance(arguments[0], (str, bytes)):
            code = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("latin-1")
            code = code.lstrip("<|=")
            if code in _KINDS:
                return _Kind(code)
            raise self._wrong(f"holds an array of {code[:20]!r}; {', '.join(_KINDS)} are read")
        if name == "_reconstruct":
            return _Array()
        if name == "scalar" and isinstance(arguments[0], _Kind):
            return self._elements(arguments[0], arguments[1], 1)[0].item()
        if name == "_frombuffer" and isinstance(arguments[1], _Kind):
            made = _Array()
            made.value = self._shaped(arguments[1], arguments[0], arguments[2])
            return made
        raise self._wrong(f"calls {name} in a way that makes no array")

    def build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, _Kind):
            if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", b"<", b"|"):
                raise self._wrong("holds an array whose byte order is not little-endian")
            return
        if not isinstance(target, _Array) or not isinstance(state, tuple) or len(state) != 5:
            raise self._wrong("sets the state of something that is no array")
        _, shape, kind, _, data = state
        if not isinstance(kind, _Kind):
            raise self._wrong("holds an array without a type")
        target.value = self._shaped(kind, data, shape)

    def _shaped(self, kind: _Kind, data: Any, shape: Any) -> NDArray[Any] | Span:
        if not isinstance(shape, tuple) or len(shape) != 1 or not isinstance(shape[0], int):
            raise self._wrong("holds an array that has not one dimension")
        if isinstance(data, Span) and kind.code == "u1":
            if data.size != shape[0]:
                raise self._wrong(f"promises {shape[0]} elements and has {data.size}")
            return data
        return self._elements(kind, data, shape[0])

    def _elements(self, kind: _Kind, data: Any, count: int) -> NDArray[Any]:
        if isinstance(data, Span):
            place = self._file.tell()
            self._file.seek(data.offset)
            raw = self._file.read(data.size)
            self._file.seek(place)
        elif isinstance(data, bytes):
            raw = data
        else:
            raise self._wrong("holds an array without bytes")
        element = np.dtype(_KINDS[kind.code])
        if len(raw) != count * element.itemsize:
            raise self._wrong(f"promises {count} elements of {element} and has {len(raw)} bytes")
        return np.frombuffer(raw, element)


def _push(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine._stack.append(value)


def _tuple(count: int) -> Callable[[_Machine], None]:
    def make(machine: _Machine) -> None:
        if len(machine._stack) < count:
            raise IndexError
        values = machine._stack[len(machine._stack) - count :]
        del machine._stack[len(machine._stack) - count :]
        machine._stack.append(tuple(values))

    return make


_SIMPLE: dict[str, Callable[[_Machine], Any]] = {
    "MARK": _push(_MARK),
    "NONE": _push(None),
    "NEWTRUE": _push(True),
    "NEWFALSE": _push(False),
    "EMPTY_TUPLE": _push(()),
    "EMPTY_LIST": lambda machine: machine._stack.append([]),
    "LIST": lambda machine: machine._stack.append(machine.take_marked()),
    "TUPLE": lambda machine: machine._stack.append(tuple(machine.take_marked())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "MEMOIZE": lambda machine: machine._memo.__setitem__(len(machine._memo), machine._stack[-1]),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "POP": lambda machine: machine._stack.pop(),
}


def elements(value: Any) -> list[Any] | None:
    """A list, a tuple or a small array as a list; None for anything else."""
    if isinstance(value, _Array) and isinstance(value.value, np.ndarray):
        return list(value.value.tolist())
    if isinstance(value, (list, tuple)):
        return list(value)
    return None


def span_of(value: Any) -> Span | bytes | None:
    """Where the bytes of an image are, or the bytes; None for anything else."""
    if isinstance(value, _Array):
        value = value.value
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        return value.tobytes()
    return value if isinstance(value, (Span, bytes)) else None
