"""Weight sharing: one store of weights from which every cell takes its network. See
:mod:`archgym.simulators.nas.supernet.training`."""
