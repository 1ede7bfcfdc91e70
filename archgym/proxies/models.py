"""The models: boosted trees, a forest, an ensemble of networks, a Gaussian process, and one for neural cells. All map feature
rows ``(n, f)`` to targets ``(n, m)``, are fixed by their seed, and are stored as plain arrays."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, MissingExtraError, UnknownNameError, quote
from archgym.proxies.features import Encoder
from archgym.threads import on_threads, thread_count

Matrix = NDArray[np.float64]

ROWS_A_THREAD = 20_000
"""Rows from which on another of LightGBM's threads is worth waiting for."""


class Model(ABC):
    """A regression model with m targets.

    Class attributes:
        name: as in ``--model``.
        trees: True where :meth:`ensembles` gives trees that can be compiled.
    """

    name: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **settings: Any) -> None:
        for key in settings:
            if key not in self.defaults:
                raise UnknownNameError(f"setting of the model {self.name!r}", key, self.defaults)
        self.settings = {**self.defaults, **settings}

    @abstractmethod
    def fit(self, rows: Matrix, targets: Matrix, seed: int) -> None:
        """Learn from ``rows (n, f)`` and standardised ``targets (n, m)``."""

    @abstractmethod
    def predict(self, rows: Matrix) -> Matrix:
        """Targets ``(n, m)``."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has to be stored beside the settings."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, NDArray[Any]], features: int, targets: int) -> None:
        """Inverse of :meth:`arrays`; refuses malformed arrays."""

    def compile(self, encoder: Encoder, constant: Matrix) -> Any:
        """A fast ``canonical designs -> targets`` for one workload; None where there is none."""
        return None


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ArchGymError(f"its model is malformed ({what})")


# --- trees ---------------------------------------------------------------------------------------------------------


class Boosting(Model):
    """Gradient boosting (LightGBM), one ensemble a target, trees of at most 64 leaves so that they compile to masks. ``threads``
    is how many may learn at once, 0 for as many as compiled functions use."""

    name = "boosting"
    defaults: ClassVar[Mapping[str, Any]] = {
        "trees": 500, "leaves": 32, "learning_rate": 0.1, "min_leaf": 2, "feature_share": 1.0, "threads": 0,
    }  # fmt: skip

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if not 2 <= int(self.settings["leaves"]) <= 64:
            raise ArchGymError(f"leaves is {self.settings['leaves']}; expected 2..64")
        self._ensembles: list[Any] = []

    def fit(self, rows: Matrix, targets: Matrix, seed: int) -> None:
        try:
            import lightgbm
        except (ModuleNotFoundError, OSError) as error:
            raise MissingExtraError("the model 'boosting'", "proxy", str(error).splitlines()[0]) from None
        from archgym.proxies.trees import from_lightgbm

        p = self.settings
        # One ensemble a thread: the trees are the same whatever their number, and LightGBM's own threads, which wait for each
        # other at every node, take longer than one where rows are few or the machine is busy.
        threads = int(p["threads"]) or thread_count()
        each = max(1, min(threads // targets.shape[1], len(rows) // ROWS_A_THREAD))
        options = {
            "objective": "regression", "num_leaves": int(p["leaves"]), "learning_rate": p["learning_rate"],
            "min_data_in_leaf": int(p["min_leaf"]), "min_data_in_bin": 1, "lambda_l2": 1e-3, "max_bin": 255,
            "feature_fraction_bynode": p["feature_share"], "feature_pre_filter": False, "seed": seed, "verbose": -1,
            "deterministic": True, "force_row_wise": True, "num_threads": each,
            "boost_from_average": True,
        }  # fmt: skip
        made: dict[int, Any] = {}

        def learn(target: int) -> None:
            data = lightgbm.Dataset(rows, targets[:, target])
            made[target] = from_lightgbm(lightgbm.train(options, data, int(p["trees"])))

        on_threads(learn, range(targets.shape[1]), threads)
        self._ensembles = [made[target] for target in range(targets.shape[1])]

    def predict(self, rows: Matrix) -> Matrix:
        from archgym.proxies.trees import walk

        return np.concatenate([walk(e, rows) for e in self._ensembles], axis=1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {k: v for i, e in enumerate(self._ensembles) for k, v in e.arrays(f"{i}.").items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], features: int, targets: int) -> None:
        from archgym.proxies.trees import TreeEnsemble, most_leaves

        self._ensembles = [TreeEnsemble.from_arrays(arrays, f"{i}.", features) for i in range(targets)]
        for e in self._ensembles:
            _need(e.outputs == 1 and most_leaves(e) <= 64, "trees of another kind")

    def compile(self, encoder: Encoder, constant: Matrix) -> Any:
        from archgym.proxies.trees import MaskedEnsembles

        return MaskedEnsembles(self._ensembles, encoder.levels, constant, encoder.owner)


class Forest(Model):
    """Extremely randomised trees (scikit-learn), all targets in one forest."""

    name = "forest"
    defaults: ClassVar[Mapping[str, Any]] = {"trees": 100, "min_leaf": 1, "feature_share": 1.0, "threads": 1}

    def fit(self, rows: Matrix, targets: Matrix, seed: int) -> None:
        try:
            from sklearn.ensemble import ExtraTreesRegressor
        except ModuleNotFoundError:
            raise MissingExtraError("the model 'forest'", "proxy", "scikit-learn is not installed") from None
        from archgym.proxies.trees import from_sklearn

        p = self.settings
        forest = ExtraTreesRegressor(
            int(p["trees"]), min_samples_leaf=int(p["min_leaf"]), max_features=p["feature_share"], random_state=seed,
            n_jobs=int(p["threads"]) or None,
        )  # fmt: skip
        # scikit-learn compares in float32: rows are rounded first, so that our thresholds decide alike.
        forest.fit(rows.astype(np.float32), targets if targets.shape[1] > 1 else targets[:, 0])
        self._ensemble = from_sklearn(forest)

    def predict(self, rows: Matrix) -> Matrix:
        from archgym.proxies.trees import walk

        return walk(self._ensemble, rows.astype(np.float32).astype(np.float64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = self._ensemble.arrays("")
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]], features: int, targets: int) -> None:
        from archgym.proxies.trees import TreeEnsemble

        self._ensemble = TreeEnsemble.from_arrays(arrays, "", features)
        _need(self._ensemble.outputs == targets, "number of outputs")


# --- networks ------------------------------------------------------------------------------------------------------


class MlpEnsemble(Model):
    """An ensemble of multi-layer perceptrons (PyTorch for training, NumPy for inference), all targets in each."""

    name = "mlp"
    defaults: ClassVar[Mapping[str, Any]] = {
        "members": 4, "width": 128, "layers": 3, "epochs": 200, "learning_rate": 2e-3, "batch": 128,
    }  # fmt: skip

    def fit(self, rows: Matrix, targets: Matrix, seed: int) -> None:
        try:
            import torch
        except ModuleNotFoundError:
            raise MissingExtraError("the model 'mlp'", "rl", "torch is not installed") from None
        p = self.settings
        self._center, self._scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
        x = torch.tensor((rows - self._center) / self._scale, dtype=torch.float32)
        y = torch.tensor(targets, dtype=torch.float32)
        self._layers: list[list[tuple[Matrix, Matrix]]] = []
        generator = torch.Generator().manual_seed(seed)
        sizes = [x.shape[1], *[int(p["width"])] * int(p["layers"]), y.shape[1]]
        for _ in range(int(p["members"])):
            # Drawn from our own generator: the global one of torch is not touched.
            weights = [
                torch.randn(b, a, generator=generator).mul_((2.0 / a) ** 0.5).requires_grad_()
                for a, b in itertools.pairwise(sizes)
            ]
            biases = [torch.zeros(b, requires_grad=True) for b in sizes[1:]]
            optimiser = torch.optim.AdamW([*weights, *biases], lr=p["learning_rate"], weight_decay=1e-5)
            steps = int(p["epochs"]) * -(-len(x) // int(p["batch"]))
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, p["learning_rate"] * 2, total_steps=steps)
            for _ in range(int(p["epochs"])):
                order = torch.randperm(len(x), generator=generator)
                for start in range(0, len(x), int(p["batch"])):
                    chosen = order[start : start + int(p["batch"])]
                    h = x[chosen]
                    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
                        h = torch.nn.functional.linear(h, w, b)
                        h = torch.nn.functional.silu(h) if i + 1 < len(weights) else h
                    loss = ((h - y[chosen]) ** 2).mean()
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    schedule.step()
            self._layers.append(
                [
                    (w.detach().double().numpy(), b.detach().double().numpy())
                    for w, b in zip(weights, biases, strict=True)
                ]
            )

    def predict(self, rows: Matrix) -> Matrix:
        total: Matrix | float = 0.0
        x = (rows - self._center) / self._scale
        for layers in self._layers:
            h = x
            for i, (w, b) in enumerate(layers):
                h = h @ w.T + b
                if i + 1 < len(layers):
                    h = h / (1.0 + np.exp(-np.clip(h, -60.0, 60.0)))
            total = total + h
        return np.asarray(total / len(self._layers))

    def arrays(self) -> dict[str, NDArray[Any]]:
        stored: dict[str, NDArray[Any]] = {"center": self._center, "scale": self._scale}
        for m, layers in enumerate(self._layers):
            for i, (w, b) in enumerate(layers):
                stored |= {f"{m}.{i}.weight": w, f"{m}.{i}.bias": b}
        return stored

    def restore(self, arrays: Mapping[str, NDArray[Any]], features: int, targets: int) -> None:
        self._center, self._scale = arrays.get("center", np.empty(0)), arrays.get("scale", np.empty(0))
        _need(self._center.shape == self._scale.shape == (features,), "scaling")
        self._layers = []
        for m in range(int(self.settings["members"])):
            layers, width = [], features
            for i in range(int(self.settings["layers"]) + 1):
                w, b = arrays.get(f"{m}.{i}.weight"), arrays.get(f"{m}.{i}.bias")
                _need(w is not None and b is not None, "a layer is missing")
                assert w is not None and b is not None
                _need(
                    w.ndim == 2 and w.shape == (len(b), width) and w.dtype.kind == b.dtype.kind == "f",
                    "a layer's shape",
                )
                layers.append((w.astype(np.float64), b.astype(np.float64)))
                width = len(b)
            _need(width == targets, "number of outputs")
            self._layers.append(layers)


# --- Gaussian process ----------------------------------------------------------------------------------------------


class GaussianProcess(Model):
    """A Gaussian process for small data: exponential kernel with one length scale a feature, fitted by marginal
    likelihood; one process a target. At most ``points`` rows are used (all of them up to that)."""

    name = "gp"
    defaults: ClassVar[Mapping[str, Any]] = {"points": 1500, "fit_points": 400, "restarts": 1}

    def fit(self, rows: Matrix, targets: Matrix, seed: int) -> None:
        from scipy.linalg import cho_factor, cho_solve
        from scipy.optimize import minimize

        rng = np.random.default_rng(seed)
        keep = np.sort(rng.permutation(len(rows))[: int(self.settings["points"])])
        rows, targets = rows[keep], targets[keep]
        few = np.sort(rng.permutation(len(rows))[: int(self.settings["fit_points"])])
        x = rows[few]
        gaps = np.abs(x[:, None, :] - x[None, :, :])
        theta, weights = [], []
        for column in targets.T:
            y = column[few]

            def loss(p: Matrix, y: Matrix = y, gaps: NDArray[np.float64] = gaps) -> tuple[float, Matrix]:
                # p: log inverse lengths, log signal, log noise; value and gradient of the negative log likelihood.
                scale, signal, noise = np.exp(p[:-2]), np.exp(p[-2]), np.exp(p[-1])
                kernel = signal * np.exp(-(gaps @ scale))
                factor = cho_factor(kernel + (noise + 1e-8) * np.eye(len(y)), lower=True)
                alpha = cho_solve(factor, y)
                inverse = cho_solve(factor, np.eye(len(y)))
                value = 0.5 * y @ alpha + np.log(np.diag(factor[0])).sum()
                inner = inverse - np.outer(alpha, alpha)
                weighted = inner * kernel
                gradient = np.concatenate(
                    [
                        -0.5 * scale * np.einsum("ij,ijk->k", weighted, gaps),
                        [0.5 * weighted.sum(), 0.5 * noise * np.trace(inner)],
                    ]
                )
                return float(value), gradient

            start = np.concatenate([np.full(rows.shape[1], np.log(0.3)), [0.0, np.log(1e-3)]])
            bounds = [(-9.0, 3.0)] * rows.shape[1] + [(-3.0, 5.0), (-16.0, 0.0)]
            found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
            theta.append(found.x)
            kernel = self._kernel(rows, rows, found.x)
            weights.append(np.linalg.solve(kernel + (np.exp(found.x[-1]) + 1e-8) * np.eye(len(rows)), column))
        self._rows, self._theta, self._weights = rows, np.array(theta), np.array(weights)

    @staticmethod
    def _kernel(a: Matrix, b: Matrix, p: Matrix) -> Matrix:
        distance = np.zeros((len(a), len(b)))
        for k, scale in enumerate(np.exp(p[:-2])):
            distance += scale * np.abs(a[:, k, None] - b[None, :, k])
        return np.asarray(np.exp(p[-2] - distance))

    def predict(self, rows: Matrix) -> Matrix:
        out = np.empty((len(rows), len(self._theta)))
        for start in range(0, len(rows), 4096):
            part = rows[start : start + 4096]
            for t, (p, w) in enumerate(zip(self._theta, self._weights, strict=True)):
                out[start : start + 4096, t] = self._kernel(part, self._rows, p) @ w
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"rows": self._rows, "theta": self._theta, "weights": self._weights}

    def restore(self, arrays: Mapping[str, NDArray[Any]], features: int, targets: int) -> None:
        empty = np.empty((0, 0))
        self._rows = arrays.get("rows", empty)
        self._theta, self._weights = arrays.get("theta", empty), arrays.get("weights", empty)
        good = self._rows.ndim == 2 and self._rows.shape[1] == features
        good = (
            good and self._theta.shape == (targets, features + 2) and self._weights.shape == (targets, len(self._rows))
        )
        _need(good and all(a.dtype == np.float64 for a in (self._rows, self._theta, self._weights)), "shapes")


# --- cells ---------------------------------------------------------------------------------------------------------


class Cells(Model):
    """Ridge regression and boosted trees on the features of NAS-Bench-201 cells; for few labels. With ``pretrained`` networks
    (``--set pretrained=3``), their mean counts as much as these two."""

    name = "cells"
    defaults: ClassVar[Mapping[str, Any]] = {
        "trees": 200, "leaves": 8, "learning_rate": 0.05, "min_leaf": 3, "feature_share": 0.3, "threads": 1, "pretrained": 0,
    }  # fmt: skip

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._members = _within("pretrained", self.settings["pretrained"], 0, 16)
        self._trees = Boosting(**{key: value for key, value in self.settings.items() if key != "pretrained"})
        self._weights = np.empty((0, 0))
        self._intercept, self._dead = np.empty((2, 0))
        self._of_class = np.empty((0, 0))

    def fit(self, rows: Matrix, targets: Matrix, seed: int) -> None:
        from archgym.proxies.cells import cell_codes, cell_features

        try:
            from sklearn.linear_model import RidgeCV
        except ModuleNotFoundError:
            raise MissingExtraError("the model 'cells'", "proxy", "scikit-learn is not installed") from None
        x, dead = cell_features(rows)
        self._dead = _of_the_dead(targets, dead)
        if not dead.all():  # which cells reach no output is known, and nothing is learnt from them about the others
            rows, x, targets = rows[~dead], x[~dead], targets[~dead]
        if self._members:
            from archgym.proxies.pretrained import predictions
            from archgym.simulators.nas import cells

            classes = cells.classes()[cell_codes(rows, alone=True)]
            self._of_class = predictions(classes, targets, self._members, seed)
        self._trees.fit(x, targets, seed)
        ridge = RidgeCV(np.logspace(-1, 4, 12)).fit(x, targets)
        self._weights = np.asarray(ridge.coef_, dtype=np.float64).reshape(targets.shape[1], -1)
        self._intercept = np.broadcast_to(np.asarray(ridge.intercept_, dtype=np.float64), targets.shape[1:]).copy()

    def predict(self, rows: Matrix) -> Matrix:
        from archgym.proxies.cells import cell_codes, cell_features

        x, dead = cell_features(rows)
        # Not a matrix product: its last bits depend on the number of threads.
        linear = np.stack([(x * weights).sum(axis=1) for weights in self._weights], axis=1) + self._intercept
        said = (self._trees.predict(x) + linear) / 2
        if self._members:
            said = (said + _looked_up(self._of_class, cell_codes(rows))) / 2
        return np.where(dead[:, None], self._dead, said)

    def arrays(self) -> dict[str, NDArray[Any]]:
        networks = {"of_class": self._of_class} if self._members else {}
        own = {"weights": self._weights, "intercept": self._intercept, "dead": self._dead}
        return {**own, **networks, **self._trees.arrays()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], features: int, targets: int) -> None:
        from archgym.proxies.cells import width

        self._weights = arrays.get("weights", np.empty((0, 0)))
        self._intercept, self._dead = (arrays.get(name, np.empty(0)) for name in ("intercept", "dead"))
        wide = width(features)
        good = self._weights.shape == (targets, wide) and self._intercept.shape == self._dead.shape == (targets,)
        _need(good and all(a.dtype == np.float64 for a in (self._weights, self._intercept, self._dead)), "shapes")
        if self._members:
            self._of_class = _restored_classes(arrays, targets)
        self._trees.restore(arrays, wide, targets)


class ParZC(Model):
    """Parametric zero-cost scores of NAS-Bench-201 cells (:mod:`archgym.proxies.parzc`): a mixer over the layers' scores, under
    a rank loss. It is stored as what it says of every function class."""

    name = "parzc"
    defaults: ClassVar[Mapping[str, Any]] = {"width": 24, "steps": 200, "dropout": 0.1}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        _within("width", self.settings["width"], 1, 1024)
        _within("steps", self.settings["steps"], 1, 100_000)
        if not self.settings["dropout"] < 1:
            raise ArchGymError(f"dropout is {self.settings['dropout']}; expected a share below 1")
        self._of_class, self._dead = np.empty((0, 0)), np.empty(0)

    def fit(self, rows: Matrix, targets: Matrix, seed: int) -> None:
        from archgym.proxies.cells import cell_codes
        from archgym.simulators.nas import cells

        try:
            from archgym.proxies.parzc import predictions

            codes = cell_codes(rows, self.name, alone=True)
            dead = cells.is_dead(cells.rows(codes))
            self._dead = _of_the_dead(targets, dead)
            kept = ~dead if not dead.all() else dead
            p = self.settings
            self._of_class = predictions(
                cells.classes()[codes[kept]], targets[kept], seed,
                width=int(p["width"]), steps=int(p["steps"]), dropout=float(p["dropout"]),
            )  # fmt: skip
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise MissingExtraError("the model 'parzc'", "nas", "torch is not installed") from None

    def predict(self, rows: Matrix) -> Matrix:
        from archgym.proxies.cells import cell_codes
        from archgym.simulators.nas import cells

        codes = cell_codes(rows, self.name)
        dead = cells.is_dead(cells.rows(codes))
        return np.where(dead[:, None], self._dead, _looked_up(self._of_class, codes))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"of_class": self._of_class, "dead": self._dead}

    def restore(self, arrays: Mapping[str, NDArray[Any]], features: int, targets: int) -> None:
        self._of_class, self._dead = _restored_classes(arrays, targets), arrays.get("dead", np.empty(0))
        _need(self._dead.shape == (targets,) and self._dead.dtype == np.float64, "shapes")


def _within(name: str, value: Any, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ArchGymError(f"{name} is {value}; expected {least}..{most}")
    return int(value)


def _of_the_dead(targets: Matrix, dead: NDArray[np.bool_]) -> Matrix:
    """What cells that reach no output have: their labels' mean, the least label where there are none."""
    return np.asarray(targets[dead].mean(axis=0) if dead.any() else targets.min(axis=0))


def _looked_up(of_class: Matrix, codes: NDArray[np.int64]) -> Matrix:
    from archgym.simulators.nas import cells

    return of_class[cells.classes()[codes]]


def _restored_classes(arrays: Mapping[str, NDArray[Any]], targets: int) -> Matrix:
    from archgym.simulators.nas import cells

    found = arrays.get("of_class", np.empty(0))
    shape = len(cells.representatives()), targets
    _need(found.shape == shape and found.dtype == np.float64 and bool(np.isfinite(found).all()), "predictions of cells")
    return found


MODELS: dict[str, type[Model]] = {
    cls.name: cls for cls in (Boosting, Forest, MlpEnsemble, GaussianProcess, Cells, ParZC)
}


def check_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model as a file holds them: numbers of the defaults' types, within sensible sizes."""
    if name not in MODELS:
        raise UnknownNameError("proxy model", name, MODELS)
    for key, value in settings.items():
        default = MODELS[name].defaults.get(key)
        whole = isinstance(default, int)
        least, most = (0, 10**6) if whole else (0.0, 1e6)
        fits = isinstance(value, int | np.integer) if whole else isinstance(value, int | float | np.number)
        if default is not None and (isinstance(value, bool) or not fits or not least <= value <= most):
            raise ArchGymError(
                f"the setting {key} is {quote(value, 40)}; expected a {'whole ' * whole}number in {least}..{most}"
            )
    return dict(settings)


def make_model(name: str, **settings: Any) -> Model:
    """A model by name."""
    if name not in MODELS:
        raise UnknownNameError("proxy model", name, MODELS)
    return MODELS[name](**check_settings(name, settings))
