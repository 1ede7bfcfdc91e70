"""The recipes by which the shipped tables of results were trained."""

from __future__ import annotations

from archgym.simulators.nas.data import DataRecipe
from archgym.simulators.nas.trainer import TrainRecipe

# The recipes of the shipped tables by name. The second takes four times as many steps at the same cost (the first is
# undertrained: its seeds disagree) on data with twice the noise, so that the cells do not crowd at a ceiling.
TABLE_RECIPES = {
    "nb201-mnist1d": TrainRecipe(
        data=DataRecipe(train=1600, valid=5000, test=5000),
        epochs=20,
        checkpoints=(4, 8, 12, 20),
        intermediate_samples=2000,
    ),
    "nb201-mnist1d-v2": TrainRecipe(
        data=DataRecipe(train=1600, valid=5000, test=5000, corr_noise_scale=0.5),
        epochs=20,
        checkpoints=(3, 6, 12, 20),
        batch=25,
        intermediate_samples=1000,
    ),
}
TABLE_RECIPE = TABLE_RECIPES["nb201-mnist1d"]
