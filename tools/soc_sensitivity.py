"""How much the physical mode's assumptions matter: Spearman rank correlation of random designs when a constant is
doubled or halved.

    python tools/soc_sensitivity.py
"""

from __future__ import annotations

from dataclasses import fields

from scipy.stats import spearmanr

from archgym.simulators.soc import SocSimulator
from archgym.simulators.soc.physical import PhysicalConstants, physical_constants

DESIGNS = 1000
METRICS = ("energy_j", "power_w", "area_mm2")


def main() -> None:
    base = physical_constants()
    for workload in ("audio_decoder", "edge_detection", "hpvm_cava"):
        reference = SocSimulator(mode="physical")
        graph = reference.load_workload(workload)
        designs = reference.space(graph).sample(4 * DESIGNS, 0)
        designs = designs[reference.evaluate(designs, graph).feasible][:DESIGNS]
        before = reference.evaluate(designs, graph).metrics
        print(f"{workload} ({len(designs)} random designs within the die)")
        for field in fields(PhysicalConstants):
            value = getattr(base, field.name)
            if isinstance(value, tuple) or field.name in (
                "complete_within",
                "die_area_mm2",
                "wide_access_bytes_per_cycle",
            ):
                continue
            worst = dict.fromkeys(METRICS, 1.0)
            for factor in (0.5, 2.0):
                changed = SocSimulator(mode="physical", physical={field.name: value * factor, "die_area_mm2": 1e9})
                after = changed.evaluate(designs, graph).metrics
                for metric in METRICS:
                    worst[metric] = min(worst[metric], float(spearmanr(before[metric], after[metric]).statistic))
            print(f"  {field.name:34s}" + "".join(f"{metric} {worst[metric]:.4f}  " for metric in METRICS), flush=True)


if __name__ == "__main__":
    main()
