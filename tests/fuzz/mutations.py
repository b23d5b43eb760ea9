"""Damage to any file: each mutation takes the sound bytes and a generator, and returns other bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

Mutation = Callable[[bytes, Random], bytes]

BORDERS = [
    0,
    1,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**64 - 1,
]
"""Numbers at which counts, offsets and lengths overflow, wrap or become negative."""

WORDS = [
    b"", b"-1", b"0", b"-0", b"1e308", b"1e999", b"-1e999", b"nan", b"inf", b"0x10", b"1_0", b"9" * 400, b"9" * 5000,
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1e-320", b"true", b"null", b"None",
    b'"', b"'", b"\\", b"[", b"]", b"{", b"}", b"=", b".", b",", b"#", b"\n", b"\r", b"\t", b"\0", b"\xff",
    b"\xed\xa0\x80", b"\x1b[2J", "\u2028".encode(), "\u0661".encode(), b"../../etc/passwd", b"~nobody-here/x",
    b"x" * 300, b"a/" * 3000, b"[" * 3000, b"{a=" * 1500, b"(" * 300, b"a." * 3000 + b"a", b"1979-05-27", b"07:32:00",
    b"[[]]", b"{}", b'""', b"[1, {}]",
]  # fmt: skip
"""What may stand where a word or number of a text file stood."""


def _place(content: bytes, random: Random, length: int = 1) -> int:
    """Return a position: mostly near the beginning or the end, where headers and directories are."""
    last = max(0, len(content) - length)
    near = min(last, random.choice((16, 128, 1024)))
    return random.choice((random.randint(0, near), last - random.randint(0, near), random.randint(0, last)))


def flip(content: bytes, random: Random) -> bytes:
    """Flip a few bits."""
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        damaged[_place(content, random)] ^= 1 << random.randrange(8)
    return bytes(damaged)


def cut(content: bytes, random: Random) -> bytes:
    """End the file too early."""
    return content[: _place(content, random)]


def grow(content: bytes, random: Random) -> bytes:
    """Add bytes at the end, or at the beginning."""
    size = random.choice((1, 3, 512, 10_000))
    extra = random.choice((bytes(size), random.randbytes(size), content))
    return content + extra if random.random() < 0.7 else extra + content


def number(content: bytes, random: Random) -> bytes:
    """Write a number from the borders over some bytes."""
    width = random.choice((1, 2, 4, 8))
    value = random.choice(BORDERS) % 256**width
    place = _place(content, random, width)
    return content[:place] + value.to_bytes(width, random.choice(("little", "big"))) + content[place + width :]


def splice(content: bytes, random: Random) -> bytes:
    """Copy one range of the file over another, or between two bytes."""
    length = random.choice((1, 8, 64, 500))
    source, place = _place(content, random, length), _place(content, random, length)
    piece = content[source : source + length]
    return content[:place] + piece + content[place + (length if random.random() < 0.5 else 0) :]


def delete(content: bytes, random: Random) -> bytes:
    """Take some bytes out."""
    length = random.choice((1, 2, 8, 100))
    place = _place(content, random, length)
    return content[:place] + content[place + length :]


def fill(content: bytes, random: Random) -> bytes:
    """Write one byte over a range."""
    length = random.choice((1, 4, 16, 256))
    place = _place(content, random, length)
    return content[:place] + bytes([random.choice((0, 1, 0x7F, 0x80, 0xFF))]) * length + content[place + length :]


def word(content: bytes, random: Random) -> bytes:
    """Write a hostile word over a word or number of a text."""
    found = list(re.finditer(rb"[\w.+-]+|\S", content))
    if not found:
        return random.choice(WORDS)
    one = random.choice(found)
    return content[: one.start()] + random.choice(WORDS) + content[one.end() :]


def lines(content: bytes, random: Random) -> bytes:
    """Drop, repeat or move a line of a text."""
    rows = content.split(b"\n")
    row = rows.pop(random.randrange(len(rows)))
    for _ in range(random.randrange(3)):
        rows.insert(random.randint(0, len(rows)), row)
    return b"\n".join(rows)


def several(mutations: list[Mutation]) -> Mutation:
    """Return the mutation that applies one to three of `mutations`."""

    def damage(content: bytes, random: Random) -> bytes:
        for _ in range(random.choice((1, 1, 2, 3))):
            content = random.choice(mutations)(content, random) if content else content
        return content

    return damage


BYTES: list[Mutation] = [flip, cut, grow, number, splice, delete, fill]
TEXT: list[Mutation] = [word, word, word, lines, *BYTES]
