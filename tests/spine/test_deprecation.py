"""Old names that documentation once called public still work, and say the new name."""

import importlib

import pytest

from archgym.deprecation import renamed
from archgym.errors import ArchGymError


@pytest.mark.parametrize("name", ["layers", "network_simulator", "networks", "readers", "torch_file", "torch_reader"])
def test_moved_modules_of_the_accelerator(name):
    old = importlib.import_module(f"archgym.simulators.accelerator.{name}")
    home = {"networks": "catalogue", "network_simulator": "simulator"}.get(name, name)
    new = importlib.import_module(f"archgym.networks.{home}")
    public = next(key for key, value in vars(new).items() if getattr(value, "__module__", "") == new.__name__)
    with pytest.warns(DeprecationWarning, match=f"archgym.networks.{home}"):
        assert getattr(old, public) is getattr(new, public)


def test_a_moved_module_as_people_import_it():
    with pytest.warns(DeprecationWarning, match="archgym.networks"):
        from archgym.simulators.accelerator.layers import Layer
    from archgym.networks import Layer as new
    from archgym.simulators.accelerator import networks

    assert Layer is new
    with pytest.warns(DeprecationWarning, match="archgym.networks"):
        assert networks.network("resnet18").layers
    with pytest.raises(ImportError):
        importlib.import_module("archgym.simulators.accelerator.nothing")


def test_renamed_names():
    get = renamed("a.module", {"Old": "archgym.errors:ArchGymError"})
    with pytest.warns(DeprecationWarning, match=r"a\.module\.Old is now archgym\.errors\.ArchGymError"):
        assert get("Old") is ArchGymError
    with pytest.raises(AttributeError):
        get("Other")
