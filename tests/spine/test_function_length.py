"""What ``make lint`` asks of functions and names is found where it is not kept."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import unused_names  # noqa: E402
from function_length import too_long  # noqa: E402


def test_the_check_finds_a_long_function(tmp_path):
    (tmp_path / "kernels").mkdir()
    body = "def f():\n" + "    x = 1\n" * 150
    (tmp_path / "a.py").write_text(body)
    (tmp_path / "kernels" / "b.py").write_text(body)
    (found,) = too_long(tmp_path)
    assert "a.py:1: f has 151 lines" in found


def test_a_name_that_only_tests_use_is_found(tmp_path, monkeypatch):
    for name, text in {
        "setup.cfg": "",
        "archgym/a.py": "def used(): ...\ndef dead():\n    dead()\ndef tested(): ...\ndef public(): ...\nused()\n",
        "tests/test_a.py": "tested()\npublic()\n",
        "docs/page.md": "Call `public()`; never tested or dead.",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(unused_names, "ROOT", tmp_path)
    assert [line.split(": ")[1] for line in unused_names.unused()] == ["dead is not used", "tested is not used"]
