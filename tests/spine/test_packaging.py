"""What people get: a wheel with types, and a source distribution that holds what a packager needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER = """
from archgym.problem import make_problem
problem = make_problem("synthetic/rugged")
reveal_type(problem)
reveal_type(problem.space.size)
size: str = problem.space.size
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The wheel and the sdist of a copy of the tree, so that no build folder is left in it."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    skip = shutil.ignore_patterns(
        ".git", ".venv", "__pycache__", "out", "build", "*.egg-info", ".numba", ".hypothesis", "lottery-*"
    )
    shutil.copytree(ROOT, source, ignore=skip)
    code = (
        "import sys; from setuptools import build_meta as b; folder = sys.argv[1]; "
        "print(b.build_wheel(folder)); print(b.build_sdist(folder))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.mark.slow
def test_a_users_type_checker_sees_the_types_of_the_wheel(dist, tmp_path):
    pytest.importorskip("mypy")
    site = tmp_path / "site"
    with zipfile.ZipFile(dist[0]) as wheel:
        assert "archgym/py.typed" in wheel.namelist()
        wheel.extractall(site)
    (tmp_path / "user.py").write_text(USER)
    # Without the libraries that archgym imports: to read their types takes half a minute.
    options = ["--follow-imports=silent", "--ignore-missing-imports", "--no-site-packages"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "user.py"],
        cwd=tmp_path, env={"MYPYPATH": str(site), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert 'Revealed type is "archgym.problem.Problem"' in done.stdout, done.stdout + done.stderr
    assert "Incompatible types in assignment" in done.stdout


@pytest.mark.slow
def test_the_sdist_holds_tests_docs_and_what_ci_pins(dist):
    with tarfile.open(dist[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "constraints.txt",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "CITATION.cff",
        "SECURITY.md",
        "docs/internals.md",
    ):
        assert name in names
    assert {"tests/fuzz/seeds/study.yaml", "tests/crash/crash.c", "tests/spine/test_packaging.py"} <= names
    assert any(name.startswith("examples/") for name in names)
