"""Break bytes in the ways that parsers are broken with."""

import random
import struct
from collections.abc import Callable, Sequence

_LENGTHS = (0, 1, 0x7F, 0x80, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_VRS = (b"SQ", b"UN", b"OB", b"OW", b"UT", b"PN", b"XX", b"\0\0", b"??")

Mutation = Callable[[random.Random, bytearray], None]


def flip_bits(chance: random.Random, data: bytearray) -> None:
    """A few bits anywhere."""
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def forge_length(chance: random.Random, data: bytearray) -> None:
    """Four or two bytes that might be a length, in either order."""
    form = chance.choice((">I", "<I", ">H", "<H"))
    size = struct.calcsize(form)
    at = chance.randrange(max(len(data) - size, 1))
    data[at : at + size] = struct.pack(form, chance.choice(_LENGTHS) & (256**size - 1))


def change_vr(chance: random.Random, data: bytearray) -> None:
    """Two bytes after something that might be a tag."""
    at = chance.randrange(0, max(len(data) - 6, 1), 2) + 4
    data[at : at + 2] = chance.choice(_VRS)


def cut_off(chance: random.Random, data: bytearray) -> None:
    """The end is missing."""
    del data[chance.randrange(len(data)) :]


def cut_out(chance: random.Random, data: bytearray) -> None:
    """Something in the middle is missing."""
    at = chance.randrange(len(data))
    del data[at : at + chance.randint(1, 64)]


def repeat(chance: random.Random, data: bytearray) -> None:
    """Something stands there again and again."""
    at = chance.randrange(len(data))
    piece = data[at : at + chance.randint(1, 64)]
    data[at:at] = piece * chance.randint(1, 50)


def insert_noise(chance: random.Random, data: bytearray) -> None:
    """Something that nobody sent."""
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.randint(1, 128))


def nest_deeply(chance: random.Random, data: bytearray) -> None:
    """Sequences in sequences, of undefined length, never closed or closed."""
    depth = chance.choice((10, 100, 1000, 5000))
    explicit = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    implicit = struct.pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    opened = (chance.choice((explicit, implicit)) + item) * depth
    closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * depth
    data[0:0] = opened + (closed if chance.random() < 0.5 else b"")


def set_bytes(chance: random.Random, data: bytearray) -> None:
    """A run of one value."""
    at = chance.randrange(len(data))
    run = min(chance.randint(1, 16), len(data) - at)
    data[at : at + run] = bytes([chance.choice((0, 0x20, 0x2E, 0x2F, 0x5C, 0x7F, 0xFF))]) * run


MUTATIONS: Sequence[Mutation] = (
    flip_bits,
    forge_length,
    change_vr,
    cut_off,
    cut_out,
    repeat,
    insert_noise,
    nest_deeply,
    set_bytes,
)


def mutated(chance: random.Random, content: bytes, most: int = 4) -> bytes:
    """Apply one to ``most`` mutations; the same generator gives the same bytes."""
    data = bytearray(content)
    for _ in range(chance.randint(1, most)):
        if not data:
            break
        chance.choice(MUTATIONS)(chance, data)
    return bytes(data)
