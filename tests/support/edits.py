"""The daemon's parts, which go from one configuration to the next, and what is done for that."""

from __future__ import annotations

import hashlib
from pathlib import Path

from controller.cache.environments.builder import Environments
from controller.config.settings import Config
from controller.errors import Rejected
from controller.reconcile import assembly as module
from controller.reconcile.assembly import assemble, origins
from controller.sources.directory import source
from controller.sources.directory.source import DirectorySource
from tests.support.head import eventually
from tests.support.wheels import make_wheel


def nobody():
    """Wakes nobody."""


class Running:
    """Parts that go from one configuration to the next, as the daemon's do."""

    def __init__(self, folder, journal):
        self.folder, self.journal = folder, journal
        self.sections = {
            "sources": [self.source("a"), self.source("b")],
            "paths": {"cache": folder / "cache", "state": folder / "state"},
            "environments": {"offline": True},
        }
        self.assembly = None
        self.edit()

    def source(self, name, **more):
        path = self.folder / more.pop("folder", name)
        path.mkdir(exist_ok=True)
        return {"type": "directory", "name": name, "path": path, "poll_interval": 3600, **more}

    def edit(self, **sections):
        """The configuration is another one now; the names of the parts that were made anew."""
        self.sections = {**self.sections, **sections}
        before, config = self.assembly, Config(**self.sections)
        self.assembly = assemble(config, self.journal, wake=nobody, before=before)
        self.journal.keep_listings_of(origins(config))
        if before is None:
            return []
        before.close(keep=self.assembly)
        return self.assembly.parts.besides(before.parts)

    @property
    def artifacts(self):
        return self.assembly.artifacts

    @property
    def jobs(self):
        return self.assembly.jobs

    def wheel(self, source, project, version="1.0", **how):
        return make_wheel(self.folder / source, project, version, **how)

    def poll(self):
        """List what is due; the revisions by project."""
        self.artifacts.poll()
        eventually(lambda: not self.artifacts.busy())
        listings = self.artifacts.listings().values()
        with self.journal.transaction():
            for listing in listings:
                self.journal.save_listing(listing, 0.0)
        return {r.project: r for listing in listings for r in listing.revisions}

    def fetch(self, revision):
        """What becomes of a wheel and, when it is good, of its environment."""
        found = eventually(lambda: self.artifacts.artifact(revision), 60)
        if not isinstance(found, Rejected):
            eventually(lambda: self.artifacts.environment(found), 60)
        return found


INDEX = {"type": "index", "url": "http://127.0.0.1:9/simple", "packages": ["demo"]}
NOTHING = {"hashed": [], "inspected": [], "prepared": [], "listed": []}


def known(running):
    return {name: running.artifacts.known(one) for name, one in running.revisions.items()}


def record(monkeypatch):
    """What was done so far: files hashed, wheels inspected and prepared, sources listed."""
    found = {"hashed": [], "inspected": [], "prepared": [], "listed": []}
    inspect, prepare = module.inspection.inspect, Environments.prepare
    listing = DirectorySource.list

    def recorded(digest):
        def hashed(file, *how):
            found["hashed"].append(Path(f"/proc/self/fd/{file.fileno()}").resolve())
            return digest(file, *how)

        return hashed

    def inspected(wheel, *args):
        found["inspected"].append(wheel.name)
        return inspect(wheel, *args)

    def prepared(self, artifact):
        found["prepared"].append(artifact.filename)
        return prepare(self, artifact)

    def listed(self):
        found["listed"].append(self.name)
        return listing(self)

    monkeypatch.setattr(hashlib, "file_digest", recorded(hashlib.file_digest))
    monkeypatch.setattr(source, "digest_of", recorded(source.digest_of))
    monkeypatch.setattr(module.inspection, "inspect", inspected)
    monkeypatch.setattr(Environments, "prepare", prepared)
    monkeypatch.setattr(DirectorySource, "list", listed)
    return found


def forget(done):
    for one in done.values():
        one.clear()
