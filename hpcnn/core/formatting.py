"""How values are written: counts with their nouns, durations, sizes, percentages; tables as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence


def counted(n: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless it is 1.

    >>> counted(1, "rank"), counted(4000, "rank")
    ('1 rank', '4,000 ranks')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Return a duration as a clock shows it, in whole seconds.

    >>> duration(59), duration(3601), duration(90061)
    ('0:59', '1:00:01', '1 d 1:01:01')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02d}:{rest:02d}" if hours or days else f"{minutes}:{rest:02d}"
    return f"{days} d {clock}" if days else clock


def byte_size(size: int) -> str:
    """Return a number of bytes in the largest unit that divides it.

    >>> byte_size(4), byte_size(65536), byte_size(3 * 2**20), byte_size(1000)
    ('4 B', '64 KiB', '3 MiB', '1000 B')
    """
    power = next(power for power in (3, 2, 1, 0) if size % 1024**power == 0)
    return f"{size // 1024**power} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def approximate_size(size: int) -> str:
    """Return a number of bytes with at most three significant digits, in powers of 1000.

    >>> approximate_size(999), approximate_size(12_345_678), approximate_size(1_000_000_000), approximate_size(999_999)
    ('999 B', '12.3 MB', '1 GB', '1 MB')
    """
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:,.0f} {units[0]}" if value >= 999.5 else f"{value:.3g} {units[0]}"


def three_digits(value: float) -> str:
    """Return a number with three significant digits and no exponent.

    >>> three_digits(0.01234), three_digits(12.34), three_digits(12345.6), three_digits(0)
    ('0.0123', '12.3', '12,346', '0')
    """
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def four_digits(value: float) -> str:
    """Return a number with four significant digits, and whole where it has more of them before the point.

    >>> [four_digits(value) for value in (1.0, 0.97531, 1.7812e-05, 75230.4, 9999.7, -1234.0, float("nan"))]
    ['1.000', '0.9753', '1.781e-05', '75230', '10000', '-1234', 'nan']
    """
    return f"{value:.0f}" if 9999.5 <= abs(value) < 1e9 else f"{value:#.4g}".rstrip(".")


def percent(share: float) -> str:
    """Return a fraction as a percentage.

    >>> percent(0.634), percent(0.0042), percent(0.0)
    ('63 %', '0.4 %', '0 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.0995 or not share else f"{100 * share:.1f} %"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Return a table as the text of a CSV file.

    >>> csv_text(["name", "value"], [["a,b", 1.5]])
    'name,value\n"a,b",1.5\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
