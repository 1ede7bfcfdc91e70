"""DNN accelerators: loop nests, a mapper, and the machines that they run on."""

from archgym.deprecation import moved_modules

moved_modules(
    __name__,
    {
        "layers": "archgym.networks.layers",
        "network_simulator": "archgym.networks.simulator",
        "networks": "archgym.networks.catalogue",
        "readers": "archgym.networks.readers",
        "torch_file": "archgym.networks.torch_file",
        "torch_reader": "archgym.networks.torch_reader",
    },
)
