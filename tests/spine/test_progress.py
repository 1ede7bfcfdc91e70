"""What the terminal shows of a run."""

import io
from types import SimpleNamespace

from rich.console import Console

from archgym.progress import RunProgress


def test_no_number_is_cut_on_a_narrow_terminal() -> None:
    text = io.StringIO()
    evaluator = SimpleNamespace(used=123_456, best=SimpleNamespace(reward=2.3731))
    with RunProgress(Console(file=text, width=80)) as progress, progress.run("random, seed 0", 200_000) as follow:
        follow(evaluator)
    assert "123456/200000" in text.getvalue() and "best 2.3731" in text.getvalue()
