"""Trials in SQL and pandas: run two agents, then ask which parameter values the good designs share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import pandas as pd

import archgym
from archgym.agents import make_agent, search
from archgym.datasets import read_trials


def main(budget: int = 300) -> pd.DataFrame:
    """Return mean reward and count a dataflow."""
    problem = archgym.make_problem("systolic/resnet18")
    with tempfile.TemporaryDirectory() as folder:
        for agent in ("random", "ga"):
            search(problem, make_agent(agent, problem, 0), budget, log=Path(folder) / f"{agent}.arrows")
        trials = read_trials(folder)
    sql = "SELECT agent, dataflow, count(*) AS trials, avg(reward) AS mean_reward FROM trials GROUP BY ALL ORDER BY ALL"
    table = duckdb.sql(sql).df()
    print(table.to_string(index=False))
    frame = trials.to_pandas()
    print(frame.groupby("agent", observed=True)["reward"].describe()[["count", "mean", "max"]])
    return table


if __name__ == "__main__":
    main()
