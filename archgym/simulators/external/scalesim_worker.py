"""Runs SCALE-Sim on one configuration; started as a program by :mod:`archgym.simulators.external.scalesim`.

Stands alone (it imports nothing of archgym), so that it can run under the interpreter of another environment.
Arguments: configuration, topology, layout, output folder. Without arguments it prints the versions of SCALE-Sim and
NumPy.
"""

__all__ = ()

import json
import sys


def main() -> int:
    import importlib.metadata

    try:
        versions = {"scalesim": importlib.metadata.version("scalesim"), "numpy": importlib.metadata.version("numpy")}
    except importlib.metadata.PackageNotFoundError as error:
        print(f"error: SCALE-Sim is not installed ({error})")
        return 3
    if len(sys.argv) < 2:
        print(json.dumps(versions))
        return 0
    from scalesim.scale_sim import scalesim

    configuration, topology, layout, folder = sys.argv[1:]
    run = scalesim(
        save_disk_space=True,
        verbose=False,
        config=configuration,
        topology=topology,
        layout=layout,
        input_type_gemm=False,
    )
    run.run_scale(top_path=folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
