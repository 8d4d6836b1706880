"""Boosters of XGBoost, in its own formats: JSON, and JSON in binary."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from modelserve.errors import ModelLoadError
from modelserve.formats._known import Ask, cannot, needs, told

try:
    import xgboost
except ImportError as missing:
    raise needs("XGBoost", "xgboost") from missing


def load(data: bytes, ask: Ask) -> xgboost.Booster:  # noqa: ARG001 - as all do
    """Make a booster of a file's bytes, which is loaded and called on the caller's thread alone.

    A service has threads of its own; and those of OpenMP would leave a forked child waiting.
    """
    booster = xgboost.Booster({"nthread": 1})
    try:
        with xgboost.config_context(nthread=1):  # of this thread alone
            booster.load_model(bytearray(data))
    except xgboost.core.XGBoostError as error:
        why = re.sub(r"^\[\S+\] \S+: ", "", told(error))  # when, and where in its source
        raise ModelLoadError(cannot("XGBoost", why)) from error
    return booster


def knows(model: Any) -> bool:
    """Say whether a model is a booster."""
    return isinstance(model, xgboost.Booster)


def caller(model: xgboost.Booster) -> Callable[[Any], Any]:
    """Return how to call a booster: it takes rows and gives what it was trained to predict."""

    def call(x: Any) -> Any:
        return model.inplace_predict(np.asarray(x))

    return call


def device(model: xgboost.Booster) -> str:  # noqa: ARG001 - as all do
    """Boosters are called on the CPU."""
    return "cpu"


def after_fork(model: xgboost.Booster) -> Literal["keep", "refuse"]:
    """A booster that has run on several threads waits for ever in a forked child."""
    config = json.loads(model.save_config())
    return "keep" if config["learner"]["generic_param"]["nthread"] == "1" else "refuse"
