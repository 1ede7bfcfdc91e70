"""TensorBoard logs of runs: the best reward, and what a learning agent measures of itself.

One event file a run. The step of every scalar is the number of simulator evaluations, so that curves of different agents
lie over each other. Logging draws no random numbers: trials are the same with and without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.errors import MissingExtraError
from archgym.evaluator import Evaluator


class ScalarLog:
    """Writes the scalars of one run.

    ``search/best_reward`` has a point at each new best and at the end; agents add their own (``train/loss``,
    ``rollout/ep_rew_mean``, ...) through :meth:`archgym.agents.base.Agent.measured`.

    Args:
        folder: of the run, made where it is missing; ``tensorboard --logdir`` takes it or one above it.
        fresh: remove the event files in ``folder`` first: a resumed run goes through its whole curve again.
    """

    def __init__(self, folder: Path | str, *, fresh: bool = False) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise MissingExtraError("a TensorBoard log", "tensorboard", "tensorboard is not installed") from None
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if fresh:
            for path in folder.glob("events.out.tfevents.*"):
                path.unlink()
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer: Any = EventFileWriter(str(folder))
        self._improvements = 0

    def write(self, scalars: Mapping[str, float], evaluations: int) -> None:
        """Write finite scalars ``name -> value`` at a number of simulator evaluations."""
        values = [
            self._summary.Value(tag=name, simple_value=float(value))
            for name, value in scalars.items()
            if math.isfinite(value)
        ]
        if values:
            summary = self._summary(value=values)
            self._writer.add_event(self._event(step=evaluations, wall_time=time.time(), summary=summary))

    def follow(self, evaluator: Evaluator) -> None:
        """Write the improvements since the last call."""
        for evaluations, reward in evaluator.improvements[self._improvements :]:
            self.write({"search/best_reward": reward}, evaluations)
        self._improvements = len(evaluator.improvements)

    def close(self, evaluator: Evaluator) -> None:
        """Write the last point and end the file."""
        self.follow(evaluator)
        if evaluator.best is not None and evaluator.used > evaluator.improvements[-1][0]:
            self.write({"search/best_reward": evaluator.best.reward}, evaluator.used)
        self._writer.close()
