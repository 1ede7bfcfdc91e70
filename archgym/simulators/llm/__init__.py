"""Systems for large language models: training (``llm-training``) and serving (``llm-serving``).

Shared by both simulators:

- :mod:`~archgym.simulators.llm.models`: shapes of models, parameter and FLOP counts; catalogue in ``data/models.json``;
  :mod:`~archgym.simulators.llm.huggingface` reads ``config.json`` files.
- :mod:`~archgym.simulators.llm.devices`: accelerators with memory, links and power; catalogue in ``data/devices.json``.
- :mod:`~archgym.simulators.llm.operators`: run times of matrix products, attention, experts and collectives, from
  fitted constants (``data/operators.json``) or measured tables; compiled forms in ``kernels/operators.py``.
- :mod:`~archgym.simulators.llm.fit`: how the constants are fitted (``archgym llm fit``).
- ``validate.py`` and ``bench.py``: registries of validation groups and figures; each simulator adds its own.
"""
