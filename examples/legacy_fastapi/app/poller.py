"""Keeps the dict like models.yaml: downloads the code of what is active, drops what is not."""

import asyncio
import logging
import os
import shutil
from pathlib import Path

import yaml

from app import registry

CONFIG = Path(os.environ.get("MODELS_CONFIG", "models.yaml"))
REPOSITORY = Path(os.environ.get("MODELS_REPOSITORY", "repository"))  # a mounted bucket, say
DOWNLOADED = Path(os.environ.get("MODELS_DOWNLOADED", "downloaded"))
INTERVAL = float(os.environ.get("MODELS_INTERVAL", "2"))

log = logging.getLogger("uvicorn.error")
active: dict[str, dict] = {}


def poll() -> None:
    wanted = {
        name: entry
        for name, entry in yaml.safe_load(CONFIG.read_text())["models"].items()
        if entry["active"]
    }
    for name in active.keys() - wanted.keys():
        registry.unload(name)
        del active[name]
        log.info("%s is not active any more", name)
    for name, entry in wanted.items():
        if active.get(name) == entry:
            continue
        try:
            registry.load(name, entry["class"], download(name, entry["version"]))
        except Exception:
            log.exception("%s %s cannot be loaded", name, entry["version"])
        else:
            active[name] = entry
            log.info("%s %s is active", name, entry["version"])


def download(name: str, version: int) -> Path:
    there, here = REPOSITORY / name / str(version), DOWNLOADED / name / str(version)
    if not here.exists():
        shutil.copytree(there, here)
    return here


async def poll_for_ever() -> None:
    while True:
        try:
            await asyncio.to_thread(poll)
        except Exception:
            log.exception("%s cannot be read", CONFIG)
        await asyncio.sleep(INTERVAL)
