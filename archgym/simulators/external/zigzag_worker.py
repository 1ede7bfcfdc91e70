"""Runs ZigZag on one job; started as a program by :mod:`archgym.simulators.external.zigzag`.

Stands alone (it imports nothing of archgym), so that it can run under the interpreter of another environment.
Argument: a JSON file with ``accelerator`` and ``mapping`` (paths of YAML files), ``workload`` (ZigZag's list of
layers), ``lpf_limit``, ``objective`` and ``result`` (where the result goes). Without argument it prints the version.
"""

__all__ = ()

import json
import logging
import sys


def main() -> int:
    try:
        import importlib.metadata

        version = importlib.metadata.version("zigzag-dse")
        from zigzag.api import get_hardware_performance_zigzag
    except ImportError as error:
        print(f"error: ZigZag cannot be imported ({error})")
        return 3
    if len(sys.argv) < 2:
        print(json.dumps({"version": version}))
        return 0
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    logging.disable(logging.CRITICAL)
    layers = []
    for layer in job["workload"]:
        energy, latency, results = get_hardware_performance_zigzag(
            workload=[layer],
            accelerator=job["accelerator"],
            mapping=job["mapping"],
            opt=job["objective"],
            dump_folder=job["folder"],
            pickle_filename=job["folder"] + "/results.pickle",
            lpf_limit=job["lpf_limit"],
            nb_spatial_mappings_generated=1,
            loma_show_progress_bar=False,
        )
        best = results[0][1][0][0]
        layers.append(
            {
                "energy_pj": float(energy),
                "latency_cycles": float(latency),
                "ideal_temporal_cycles": float(best.ideal_temporal_cycle),
                "utilization": float(best.mac_spatial_utilization),
            }
        )
    with open(job["result"], "w", encoding="utf-8") as file:
        json.dump({"version": version, "layers": layers}, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
