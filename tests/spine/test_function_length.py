"""Functions stay short enough to be read: the same check as ``make lint``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from function_length import too_long  # noqa: E402


def test_no_function_is_too_long():
    assert too_long(ROOT / "archgym") == []


def test_the_check_finds_a_long_function(tmp_path):
    (tmp_path / "kernels").mkdir()
    body = "def f():\n" + "    x = 1\n" * 150
    (tmp_path / "a.py").write_text(body)
    (tmp_path / "kernels" / "b.py").write_text(body)
    (found,) = too_long(tmp_path)
    assert "a.py:1: f has 151 lines" in found
