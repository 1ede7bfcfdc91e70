"""Print how far the laws of the shipped technologies are from the rows they stand for: ``python tools/component_errors.py``."""

from __future__ import annotations

from archgym.simulators.accelerator.components import fit_errors

if __name__ == "__main__":
    print("| technology | family | quantity | rows | mean error | worst error | other rows | worst |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for e in fit_errors():
        other = f"{e.other_rows} | {e.other_worst:.1%}" if e.other_rows else "0 | -"
        print(
            f"| {e.technology} | {e.family} | {e.quantity} | {e.fitted_rows} | {e.mean_error:.1%} | "
            f"{e.worst_error:.1%} | {other} |"
        )
