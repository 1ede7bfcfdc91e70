import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from archgym.console import print_table
from archgym.quantities import quantity

UNITS = {
    "": ("", 0), "1": ("", 0), "%": ("%", 0), "mm2": ("mm2", 0), "uJ*ms": ("uJ*ms", 0), "tokens/s": ("tokens/s", 0),
    "s": ("s", 0), "min": ("min", 0), "ms": ("s", -3), "us": ("s", -6), "ns": ("s", -9), "pJ": ("J", -12), "uJ": ("J", -6), "J": ("J", 0),
    "mW": ("W", -3), "W": ("W", 0), "B": ("B", 0), "Gbit/s": ("bit/s", 9), "MHz": ("Hz", 6),
}  # fmt: skip
PREFIXES = {"f": -15, "p": -12, "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def parsed(text, base):
    """The value in ``base``, from what was printed."""
    number, _, unit = text.partition(" ")
    assert unit.endswith(base)
    return Decimal(number.replace(",", "")).scaleb(PREFIXES[unit.removesuffix(base)])


@given(
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda v: v == 0 or 1e-290 < abs(v) < 1e290),
    st.sampled_from(sorted(UNITS)),
    st.integers(1, 9),
)
def test_what_is_printed_is_the_value_to_its_digits(value, unit, digits):
    base, exponent = UNITS[unit]
    text = quantity(value, unit, digits)
    true = Decimal(value).scaleb(exponent)
    assert abs(parsed(text, base) - true) <= abs(true) * Decimal("0.5000001") * Decimal(10) ** (1 - digits)
    assert "1" != text.partition(" ")[2]


@given(st.floats(1e-3, 1e17), st.sampled_from(["pJ", "mW"]))
def test_prefixes_leave_one_to_three_digits_before_the_point(value, unit):
    assert 1 <= float(quantity(value, unit).split()[0]) < 1000


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (5.34487e9, "pJ", "5.345 mJ"), (1.03042e7, "pJ", "10.3 uJ"), (75000.0, "ns", "75 us"), (999.96, "ns", "1 us"),
        (5400.0, "s", "5,400 s"), (1769472.0, "1", "1,769,472"), (0.25, "1", "0.25"), (20.5, "min", "20.5 min"),
        (8e10, "B", "80 GB"), (float("nan"), "pJ", "-"), (None, "s", "-"), (float("inf"), "ms", "inf ms"), (-2e-3, "J", "-2 mJ"),
    ],
)  # fmt: skip
def test_quantities_read_as_people_write_them(value, unit, text):
    assert quantity(value, unit) == text


@given(
    st.lists(st.lists(st.integers(0, 10**13), min_size=9, max_size=9), min_size=1, max_size=4),
    st.sampled_from([60, 80, 200, None]),
)
def test_no_number_or_name_of_a_table_is_cut(rows, width):
    names = [f"sampled-agent-with-name-{i}" for i in range(len(rows))]
    table = Table("agent", *(f"evaluations of {j}" for j in range(9)), title="higher reward is better")
    for name, row in zip(names, rows, strict=True):
        table.add_row(name, *(f"{value:,}" for value in row))
    file = io.StringIO()
    options = {} if width is None else {"width": width, "force_terminal": True}
    print_table(Console(file=file, color_system=None, **options), table)
    words = file.getvalue().replace("│", " ").split()
    assert all(name in words for name in names)
    assert all(f"{value:,}" in words for row in rows for value in row)
    assert width is None or max(map(len, file.getvalue().splitlines())) <= width
