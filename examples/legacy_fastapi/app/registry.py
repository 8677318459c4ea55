"""The models that are active: objects in a dict, by name."""

import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

models: dict[str, Any] = {}
lock = threading.Lock()


def load(name: str, target: str, folder: Path) -> None:
    """Import a model's code from the folder it was downloaded to, and put an object of its class
    where requests find it.
    """
    module_name, _, class_name = target.partition(":")
    # Models import what lies beside them by its plain name, so the folder has to be importable;
    # two models whose modules are called the same get in each other's way.
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(module_name, folder / f"{module_name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    model = getattr(module, class_name)()
    model.load(str(folder))
    with lock:
        models[name] = model


def unload(name: str) -> None:
    with lock:
        models.pop(name, None)


def answer(name: str, payload: Any) -> Any:
    model = models[name]
    data = model.pre_process(payload) if hasattr(model, "pre_process") else payload
    result = model.predict(data)
    result = model.post_process(result) if hasattr(model, "post_process") else result
    return result.tolist() if isinstance(result, np.ndarray) else result
