"""A name that is given twice is refused: of two values one would be lost."""

import pytest

from archgym.console import parse_options
from archgym.errors import ArchGymError


def test_an_option_given_twice_is_refused():
    assert parse_options(("a-b=1", "c=2")) == {"a_b": 1, "c": 2}
    with pytest.raises(ArchGymError, match="given twice"):
        parse_options(("device=DDR3-1600", "device=DDR4-2400"))
    with pytest.raises(ArchGymError, match="given twice"):
        parse_options(("a-b=1", "a_b=1"))
