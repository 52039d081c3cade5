"""Inputs that somebody might hand to procosm, mostly wrong: mutations of what it wrote itself.

A case is an input and whether taking it would be a fault. Mutations are made everywhere, then as many as a surface asks
for are drawn with its seed.
"""

import copy
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Path = tuple[str | int, ...]
Judge = Callable[[Path, str], bool]
"""Whether a mutation of a kind (type, size, vast, missing, unknown) at a path makes the document wrong."""

NAN, INFINITE = float("nan"), float("inf")
VAST = (-1, 10**18, 1e300, -1e300)
FINITE = (0, 3, 10**9, 1e-320)
DEEP = 100_000


@dataclass(frozen=True)
class Case:
    """One input: ``run`` hands it over; ``wrong`` says that it must be refused."""

    name: str
    run: Callable[[], object]
    wrong: bool


def drawn(cases: list[Case], most: int, seed: int) -> list[Case]:
    """At most ``most`` of the cases, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(cases))[:most]
    return [cases[i] for i in sorted(chosen)]


def nodes(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value inside a JSON value; of a list the first and the last."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from nodes(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from nodes(value[index], (*path, index))


def changed(document: Any, path: Path, change: Callable[[Any, Any], None]) -> Any:
    """A copy in which ``change(parent, key)`` was called for the value at ``path``."""
    document = copy.deepcopy({"root": document})
    parent: Any = document
    for key in ("root", *path)[:-1]:
        parent = parent[key]
    change(parent, ("root", *path)[-1])
    return document.get("root")


def replacements(value: Any) -> Iterator[tuple[Any, str]]:
    """Values to put in place of one, each with the kind of mutation it is."""
    other = [None, "1", "", [], {}, [value], {"a": value}, NAN, INFINITE, -INFINITE, 10**400]
    if isinstance(value, bool):
        yield from ((each, "type") for each in (*other, 0, 1, 0.5))
    elif isinstance(value, int | float):
        yield from ((each, "type") for each in (*other, True))
        yield from ((each, "size") for each in FINITE)
        yield from ((each, "vast") for each in VAST)
        if isinstance(value, int):
            yield 1.5, "type"
    elif isinstance(value, str):
        yield from ((each, "type") for each in (None, 0, 1.5, True, [], {}, NAN, 10**400))
        yield from ((each, "size") for each in ("\0", "x" * 10**6, "../../../etc/passwd", "\ud800"))
    else:
        yield from ((each, "type") for each in (None, "", "x", 0, NAN, True, [] if isinstance(value, dict) else {}))


def json_texts(document: Any, judge: Judge) -> Iterator[tuple[str, bytes, bool]]:
    """Name, text and whether it is wrong, for every mutation of a JSON document."""

    def text(value: Any) -> bytes:
        return json.dumps(value).encode("utf-8", "surrogatepass")

    for path, value in nodes(document):
        if path:
            for new, kind in replacements(value):
                mutant = changed(document, path, lambda parent, key, new=new: parent.__setitem__(key, new))
                yield f"{list(path)} = {str(new)[:40]!r}", text(mutant), judge(path, kind)
            if isinstance(path[-1], str):
                mutant = changed(document, path, lambda parent, key: parent.pop(key))
                yield f"{list(path)} missing", text(mutant), judge(path, "missing")
        if isinstance(value, dict):
            mutant = changed(document, path, lambda parent, key: parent[key].__setitem__("no such key", 1))
            yield f"{list(path)} with an unknown key", text(mutant), judge((*path, "no such key"), "unknown")
    whole = text(document)
    for name, content in documents(whole).items():
        yield name, content, True


def documents(whole: bytes) -> dict[str, bytes]:
    """A file that is no JSON document of the right kind at all."""
    return {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "null": b"null",
        "list": b"[]",
        "list of itself": b"[" + whole + b"]",
        "text": b'"x"',
        "number": b"1",
        "not a number": b"NaN",
        "long number": b"1" * 100_000,
        "no utf-8": b"\xff\xfe" + whole,
        "deep": b"[" * DEEP,
        "deep and whole": b"[" * DEEP + b"]" * DEEP,
        "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        "no object": b"{}",
        "zeros": bytes(64),
        "twice": whole + whole,
    }


def flips(
    content: bytes, count: int, seed: int, first: int = 0, last: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """The same bytes with one of them changed, anywhere from ``first`` to ``last``."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        at, bit = int(rng.integers(first, last or len(content))), int(rng.integers(8))
        yield f"bit {bit} of byte {at} flipped", content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def cuts(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The same bytes, cut off or grown."""
    for share in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        yield f"cut after {share} bytes", content[:share]
    yield "grown", content + bytes(1000)


def safetensors_files(content: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Mutations of a safetensors file: name, bytes, and whether it is wrong whatever it is for."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]

    def file(changed_header: bytes, data: bytes = data, stated: int | None = None) -> bytes:
        return struct.pack("<Q", len(changed_header) if stated is None else stated) + changed_header + data

    whole = content[8 : 8 + length]
    for stated in (0, 1, length - 1, length + 1, 10**9, 2**40, 2**63, 2**64 - 1):
        yield f"header of {stated} bytes stated", file(whole, stated=stated), True
    for name, text in documents(whole).items():
        # An empty header is a good file, of no tensors.
        yield f"header: {name}", file(text), True
    names = [name for name in header if name != "__metadata__"]
    for name in (names[0], names[len(names) // 2], names[-1]):
        tensor = header[name]
        for key, values in {
            "dtype": ("F64", "I64", "U8", "BOOL", "C64", "F8_E4M3", "F4", "X", None, 3),
            "shape": ([], [0], [10**9], [2**62, 4], [-1], None, "x", [1.5], [10**18] * 3, [*tensor["shape"], 1]),
            "data_offsets": ([0, 0], [0, 2**62], [-1, 1], [5, 3], None, "x", [0], tensor["data_offsets"][::-1]),
        }.items():
            for value in (each for each in values if each != tensor[key]):
                mutant = {**header, name: {**tensor, key: value}}
                yield f"{name}: {key} {value}", file(json.dumps(mutant).encode()), True
        yield f"{name} missing", file(json.dumps({k: v for k, v in header.items() if k != name}).encode()), True
        yield (
            f"{name} called otherwise",
            file(json.dumps({(k + "x" if k == name else k): v for k, v in header.items()}).encode()),
            True,
        )
    yield from ((name, mutant, True) for name, mutant in cuts(content))
