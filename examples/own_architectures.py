"""An architecture space of your own: the accuracy and the hardware cost of the same design."""

from __future__ import annotations

import archgym
from archgym.agents import make_agent, search
from archgym.networks import language as arch

taps, filters = arch.Choice("taps", 1, 3, 5), arch.Choice("filters", 8, 16)
separable = arch.Sequence(arch.Depthwise(taps), arch.Conv(filters, kernel=1))
kind = arch.Choice("kind", plain=arch.Conv(filters, taps), separable=separable)
block = arch.Residual(arch.Sequence(kind, arch.Norm(), arch.Activation()))
net = arch.Sequence(
    arch.Conv(8),
    arch.Repeat(block, arch.Choice("blocks", 1, 2, 3)),
    arch.Optional("halved", arch.Pool("max")),
    arch.Concatenate(arch.Conv(8), arch.Conv(8, kernel=1)),
    arch.Activation(arch.Choice("activation", "relu", "silu")),
)


def main(budget: int = 6, epochs: int = 2) -> tuple[float, float]:
    """The best accuracy in percent under a limit of work, and the energy in uJ of the best array found for its network."""
    cells = archgym.make_problem(
        f"nas/arch:{__file__}:net", objective="accuracy@macs<=500000", fidelity=f"train:epochs={epochs}"
    )
    found = search(cells, make_agent("re", cells, seed=0), budget).best
    print(cells.space.decode(found.design)[0], found.metrics)
    network = cells.workload.network(found.design)
    arrays = archgym.make_problem("systolic", workload=network, objective="energy_uj@area_mm2<=2")
    array = search(arrays, make_agent("ga", arrays, seed=0), 200).best
    print(arrays.space.decode(array.design)[0], array.metrics)
    return found.metrics["accuracy_percent"], array.metrics["energy_uj"]


if __name__ == "__main__":
    main()
