"""A pickle's opcodes, followed without carrying them out: how deep, how much, and what for keys.

Python's reader builds whatever it is told to. A hash of a tuple goes as deep as the tuple is nested, in C, until the
stack is at its end; a tuple that holds another twice, and that one a third twice, takes 2^n steps to hash; and an opcode of
one byte makes an object of hundreds. So all of a pickle is followed here first, by sizes alone.
"""

from __future__ import annotations

import io
import pickletools
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

MAX_DEPTH = 200
"""Levels of nesting; released networks have some thirty."""

MAX_OPCODES = 2_000_000
"""In a file, its inner pickles included; released networks have some ten thousand."""

MAX_KEY_PARTS = 16
MAX_ODD_KEYS = 10_000
"""Keys that are neither text nor small integers: whoever chooses them can make their hashes collide."""

BYTES_PER_BYTE, BYTES_AT_LEAST = 8, 16 << 20
"""What a file may make of each of its bytes, and may make in any case. An honest one makes each number three times."""


class Refused(Exception):
    """A pickle asks for what no network needs."""


class Budget:
    """The remaining budget of a file of `size` bytes, in opcodes and in bytes of memory, all of its parts together."""

    def __init__(self, size: int) -> None:
        self.bytes, self.opcodes, self.odd_keys = BYTES_AT_LEAST + BYTES_PER_BYTE * size, MAX_OPCODES, MAX_ODD_KEYS

    def take(self, count: int) -> None:
        """Raises `Refused` where `count` bytes of memory are more than is left."""
        self.bytes -= count
        if self.bytes < 0:
            raise Refused(f"memory beyond {BYTES_PER_BYTE} times its own size")

    def step(self) -> None:
        self.opcodes -= 1
        if self.opcodes < 0:
            raise Refused(f"more than {MAX_OPCODES:,} objects")


class _Cell(NamedTuple):
    """An object on the reader's stack: its depth, its parts if all tuples in it are written out, whether its hash is safe."""

    depth: int = 1
    parts: int = 1
    plain: bool = False


_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_TEXTS |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "NONE", "NEWTRUE", "NEWFALSE"}
_INTEGERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"}
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "FROZENSET"}
_FILLING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}

_COSTS = {
    **dict.fromkeys(("EMPTY_SET", "FROZENSET"), 216),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"), 500),
    **dict.fromkeys(("MARK", "STOP", "POP", "POP_MARK", "PROTO", "FRAME", "DUP", *_PUTS, *_GETS), 16),
}
_COST, _COST_OF_ITEM, _COST_OF_KEY = 64, 16, 100  # bytes


def _shape(opcode: pickletools.OpcodeInfo) -> tuple[int, bool]:
    """(objects that it takes below the mark, or without one; whether it takes all down to the mark)"""
    names = [kind.name for kind in opcode.stack_before]
    return (names.index("mark"), True) if "mark" in names else (len(names), False)


_SHAPES = {opcode.name: _shape(opcode) for opcode in pickletools.opcodes}


def check(file: io.BytesIO, budget: Budget) -> None:
    """Follows one pickle and goes back to where it began. Raises `Refused`, or anything at all where it is damaged."""
    start = file.tell()
    stack: list[_Cell | None] = []  # None is a mark
    memory: dict[int, _Cell | None] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        budget.step()
        budget.take(_COSTS.get(name, _COST) + (sys.getsizeof(argument) if isinstance(argument, (str, bytes)) else 0))
        if name == "MARK":
            stack.append(None)
        elif name in _GETS:
            stack.append(memory[int(argument or 0)])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in _PUTS:
            place = len(memory) if name == "MEMOIZE" else int(argument or 0)
            if not 0 <= place <= count:  # the reader sets memory aside for all places before it
                raise Refused(f"place {place} among at most {count} remembered objects")
            memory[place] = stack[-1]
        else:
            _follow(opcode, argument, stack, budget)
    file.seek(start)


def _follow(opcode: pickletools.OpcodeInfo, argument: Any, stack: list[_Cell | None], budget: Budget) -> None:
    """The effect on the stack of an opcode that makes or fills an object, or drops one."""
    name = opcode.name
    below, to_mark = _SHAPES[name]
    at = len(stack)
    if to_mark:
        while at and stack[at - 1] is not None:
            at -= 1
        if not at:
            raise ValueError("an opcode looks for a mark where there is none")
        items = [cell for cell in stack[at:] if cell is not None]
        del stack[at - 1 :]
    else:
        items = []
    first = len(stack) - below
    if first < 0:
        raise ValueError("an opcode takes more than there is")
    taken = [cell for cell in stack[first:] if cell is not None]
    del stack[first:]
    keys = _keys(name, taken, items)
    _check_keys(keys, budget)
    budget.take(_COST_OF_ITEM * len(items) + _COST_OF_KEY * len(keys))
    inner = items + (taken[1:] if name in _FILLING else taken)
    depth = 1 + max((cell.depth for cell in inner), default=0)
    if name in _FILLING and taken:
        depth = max(depth, taken[0].depth)
    if depth > MAX_DEPTH:
        raise Refused(f"more than {MAX_DEPTH} levels of nesting")
    if opcode.stack_after:
        parts = 1 + sum(cell.parts for cell in inner) if name in _TUPLES else 1
        plain = name in _TEXTS or (name in _INTEGERS and isinstance(argument, int) and abs(argument) < 1 << 60)
        stack.append(_Cell(depth, min(parts, 1 << 40), plain))


def _keys(name: str, taken: Sequence[_Cell], items: Sequence[_Cell]) -> Sequence[_Cell]:
    """The objects among an opcode's operands that it hashes."""
    if name == "SETITEM":
        return taken[1:2]
    if name in ("SETITEMS", "DICT"):
        return items[::2]
    return items if name in ("ADDITEMS", "FROZENSET") else ()


def _check_keys(keys: Sequence[_Cell], budget: Budget) -> None:
    for key in keys:
        if key.parts > MAX_KEY_PARTS:
            raise Refused(f"a key of more than {MAX_KEY_PARTS} parts")
        budget.odd_keys -= not key.plain
    if budget.odd_keys < 0:
        raise Refused(f"more than {MAX_ODD_KEYS:,} keys that are neither text nor small numbers")
