"""Extras are said once, in setup.cfg."""

import configparser
import re
from importlib import metadata
from pathlib import Path

import pytest

from archgym import extras
from archgym.agents.base import load_agent
from archgym.errors import MissingExtraError


@pytest.fixture
def installed(monkeypatch):
    """The metadata that an installation of this very source has."""
    said = configparser.ConfigParser()
    said.read(Path(__file__).parents[2] / "setup.cfg")
    lines = said["options"]["install_requires"].split()
    lines += [
        f'{line}; extra == "{extra}"'
        for extra, names in said["options.extras_require"].items()
        for line in names.split()
    ]
    monkeypatch.setattr(extras, "requires", lambda name: lines)
    extras.packages.cache_clear()
    yield {extra: names.split() for extra, names in said["options.extras_require"].items()}
    extras.packages.cache_clear()


def test_packages_are_those_of_setup_cfg(installed):
    found = extras.packages()
    assert "numpy" in found[""] and set(found) == {"", *installed} - {"all"}
    for extra in set(installed) - {"all", "test"}:  # these also name extras of this package
        assert list(found[extra]) == [re.match(r"[\w.-]+", line)[0] for line in installed[extra]]


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch", "rl"), ("stable_baselines3", "rl"), ("cmaes", "optuna"), ("botorch", "botorch"), ("gpytorch", "botorch"),
     ("sklearn", "proxy"), ("numpy", "scalesim"), ("nothing", None)],
)  # fmt: skip
def test_a_module_leads_to_the_extra_that_brings_it(installed, module, extra):
    assert extras.extra_with(module) == extra


def test_an_agent_whose_library_is_missing_names_the_extra(installed, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'optuna.samplers'", name="optuna.samplers")

    monkeypatch.setattr("archgym.registry.AGENTS.load", missing)
    with pytest.raises(MissingExtraError, match=r"optuna is not installed.*archgym\[optuna\]"):
        load_agent("tpe")


def test_sources_that_were_not_installed_know_no_extras(monkeypatch):
    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", nothing)
    extras.packages.cache_clear()
    assert extras.packages() == {} and extras.extra_with("torch") is None
    extras.packages.cache_clear()
