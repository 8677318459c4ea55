"""What a wheel's `wheelway.toml` may say, and where it lies."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.tags import sys_tags
from packaging.version import Version

from controller.cache.author_options import entries
from controller.cache.option_layers import effective
from controller.cache.wheels.inspection import inspect
from controller.config.serve import AUTOSCALING
from controller.config.settings import (
    ActorOptions,
    InspectionLimits,
    Options,
    ServeOptions,
)
from controller.errors import Rejected
from controller.model import Artifact, Environment, PartEntry, PipelineEntry, Release
from controller.serve.rendering import Renderer
from tests.support.wheels import revision_of

pytestmark = pytest.mark.unit

TARGETS = {"iris": "acme.iris:Iris", "wine": "acme.wine:Wine", "other": "solo:Other"}


def read(**files):
    """By package: the text of its wheelway.toml."""
    bodies = {f"{package}/wheelway.toml": text for package, text in files.items()}
    encoded = {path: b if isinstance(b, bytes) else b.encode() for path, b in bodies.items()}
    found = entries(TARGETS, Version("1.0"), encoded, encoded.get)
    return {entry.name: entry for entry in found}


def lying(*paths, target):
    """The entry of one pipeline in a wheel with these files; each wheelway.toml has its path."""
    bodies = {
        path: f"[settings]\nof = '{path}'".encode() if path.endswith(".toml") else b""
        for path in paths
    }
    (entry,) = entries({"iris": target}, Version("1.0"), bodies, bodies.get)
    return entry


# -- reading -------------------------------------------------------------------------------------


def test_a_pipelines_own_wishes_go_over_those_of_its_package():
    found = read(
        acme="""
        [options]
        threads = 2
        ray_actor_options = { num_cpus = 0.5, num_gpus = 1 }
        [settings]
        threshold = 0.5
        colours = { red = 1, blue = 2 }
        [pipelines.Iris.options]
        ray_actor_options = { num_cpus = 2 }
        [pipelines.Iris.settings]
        colours = { red = 3 }
        """
    )
    shared = {"threads": 2, "ray_actor_options": {"num_cpus": 0.5, "num_gpus": 1}}
    assert (found["wine"].options, found["wine"].settings) == (
        shared,
        {"threshold": 0.5, "colours": {"red": 1, "blue": 2}},
    )
    assert (found["iris"].options, found["iris"].settings) == (
        {"threads": 2, "ray_actor_options": {"num_cpus": 2, "num_gpus": 1}},
        {"threshold": 0.5, "colours": {"red": 3}},
    )
    assert (found["other"].options, found["other"].settings) == ({}, {})
    assert all(entry.refusal is None for entry in found.values())


@pytest.mark.parametrize(
    ("target", "paths", "read"),
    [
        ("acme.scorer.pipeline:P", ["acme/scorer/__init__.py", "acme/scorer/wheelway.toml"], 1),
        ("acme.scorer:P", ["acme/scorer/__init__.py", "acme/scorer/wheelway.toml"], 1),
        ("acme.scorer.pipeline:P", ["acme/scorer/__init__.py", "acme/wheelway.toml"], 1),
        ("acme.scorer.pipeline:P", ["acme/scorer/pipeline.py", "acme/scorer/wheelway.toml"], 1),
        ("acme.a.b.c:P", ["acme/__init__.py", "acme/a/__init__.py", "acme/wheelway.toml"], 2),
        ("acme.p:P", ["acme/__init__.py", "acme/wheelway.toml", "acme/x/wheelway.toml"], 1),
        ("solo:P", ["solo.py", "other/wheelway.toml"], None),
    ],
)
def test_wishes_lie_beside_the_files_of_the_pipeline_also_in_a_namespace(target, paths, read):
    entry = lying(*paths, target=target)
    assert entry.refusal is None
    assert entry.settings == ({} if read is None else {"of": paths[read]})


@pytest.mark.parametrize(
    ("target", "paths", "said"),
    [
        (
            "acme.p:P",
            ["acme/__init__.py", "wheelway.toml"],
            "wheelway.toml: is not read there; it belongs inside the package of the pipeline: move",
        ),
        (
            "acme.sub.p:P",
            ["acme/__init__.py", "acme/sub/__init__.py", "acme/sub/wheelway.toml"],
            "acme/sub/wheelway.toml: is not read there",
        ),
        ("solo:P", ["solo.py", "wheelway.toml"], "make `solo` one, with the code in solo/__init__"),
        (
            "acme.scorer:P",
            ["acme/scorer/__init__.py", "acme/scorer/wheelway.toml", "acme/wheelway.toml"],
            "acme/scorer/wheelway.toml and acme/wheelway.toml are both for acme.scorer:P",
        ),
    ],
)
def test_wishes_that_nobody_would_read_are_told_of(target, paths, said):
    refusal = lying(*paths, target=target).refusal
    assert refusal.reason == "WishesInvalid"
    assert said in refusal.message


MISTAKES = {
    "the operator's": ("active = false", "the operator's to say, under [[pipelines]]"),
    "an option outside": ("threads = 1", "`threads` belongs under [options]"),
    "an option of actors": (
        "[options]\nnum_gpus = 1",
        "options.num_gpus: unknown key; `num_gpus` belongs into `ray_actor_options`",
    ),
    "a number of autoscaling": ("[options]\nmax_replicas = 2", "into `autoscaling_config`"),
    "an unknown option": ("[options]\nreplicas = 2", "known are access_log, "),
    "an unknown key": ("threshold = 2", "known are `options` and `settings`"),
    "unknown option": (
        "[options]\n\nnum_cpu = 1",
        "acme/wheelway.toml:3: options.num_cpu: unknown",
    ),
    "wrong type": ('[options]\nthreads = "many"', "acme/wheelway.toml:2: options.threads: "),
    "unknown table": ("[option]\nthreads = 1", "acme/wheelway.toml:1: option: unknown"),
    "not TOML": ("[options\n", "acme/wheelway.toml: not valid TOML: "),
    "not UTF-8": (b"a = '\xff'", "acme/wheelway.toml: not valid TOML: "),
    "a date among the settings": ("[settings]\nsince = 2024-01-01", "since holds"),
    "an infinity deep in the settings": ("[settings]\na = [{ b = [inf] }]", "JSON cannot say"),
    "more digits than Python writes": (
        "[settings]\na = [{ b = 0x" + 4000 * "f" + " }]",
        "16000 bits",
    ),
    "a policy of autoscaling": (
        '[options]\nautoscaling_config = { policy = { policy_function = "os:system" } }',
        "'policy' cannot be wished for",
    ),
    "replicas that are no number": (
        '[options]\nautoscaling_config = { max_replicas = "all" }',
        "max_replicas must be a number",
    ),
    "replicas beyond int32": (
        "[options]\nnum_replicas = 2147483648",
        'options.num_replicas: must be "auto" or a number from 1 to 10000',
    ),
    "replicas of 31 digits": ("[options]\nnum_replicas = 1" + 30 * "0", "options.num_replicas"),
    "more than anybody replicates": (
        "[options]\nautoscaling_config = { max_replicas = 10001 }",
        "max_replicas must be from 1 to 10000",
    ),
    "more than a float holds": (
        "[options]\nautoscaling_config = { max_replicas = 1" + 400 * "0" + " }",
        "max_replicas must be from 1 to 10000",
    ),
    "delays without end": (
        "[options]\nautoscaling_config = { upscale_delay_s = 1e300 }",
        "upscale_delay_s must be from 0 to 1000000",
    ),
    "a report to Serve's controller every microsecond": (
        "[options]\nautoscaling_config = { metrics_interval_s = 0.000001 }",
        "metrics_interval_s must be from 1 to 1000000",
    ),
    "a sample of the load every microsecond": (
        "[options]\nautoscaling_config = { look_back_period_s = 0.000005 }",
        "look_back_period_s must be from 1 to 1000000",
    ),
    "no replica at the most": (
        "[options]\nautoscaling_config = { max_replicas = 0 }",
        "max_replicas must be from 1 to 10000",
    ),
    "requests beyond int32": ("[options]\nmax_ongoing_requests = 2147483648", "100000"),
    "a queue beyond int32": ("[options]\nmax_queued_requests = 2147483548", "100000"),
    "a retirement of years": ("[options]\ngraceful_shutdown_timeout = 1e300", "86400"),
    "a request of years": ("[options]\nrequest_timeout = 1e9", "86400"),
    "no request in a batch": ("[options]\nmax_batch_size = 0", "options.max_batch_size"),
    "a batch beyond int32": ("[options]\nmax_batch_size = 2147483648", "100000"),
    "a batch that is waited for for ever": ("[options]\nbatch_wait_timeout = 1e9", "10"),
    "a batch that is waited for until nobody waits any more": (
        "[options]\nbatch_wait_timeout = 2\nrequest_timeout = 2",
        "options.request_timeout: must be longer than batch_wait_timeout, which is 2",
    ),
    "an infinite request": ("[options]\nrequest_timeout = inf", "options.request_timeout"),
    "a timeout that is no number": ("[options]\nhealth_check_timeout = nan", "finite"),
    "health asked for without a pause": ("[options]\nhealth_check_period = 5e-324", "0.1"),
    "more memory than int64 counts": (
        "[options.ray_actor_options]\nmemory = 9223372036854775808",
        "options.ray_actor_options.memory",
    ),
    "CPUs without end": ("[options.ray_actor_options]\nnum_cpus = 1e300", "1000000"),
    "a GPU and a half": ("[options.ray_actor_options]\nnum_gpus = 1.5", "whole GPUs only"),
    "memory among the resources": (
        "[options.ray_actor_options.resources]\nmemory = 1",
        "memory is no custom resource: set `memory`",
    ),
    "a resource that ASCII cannot say": (
        '[options.ray_actor_options.resources]\n"größe" = 1',
        "options.ray_actor_options.resources",
    ),
    "a resource without end": ("[options.ray_actor_options.resources]\nx = 1e300", "1000000"),
    "an accelerator with NUL": (
        '[options.ray_actor_options]\naccelerator_type = "T4\\u0000"',
        "options.ray_actor_options.accelerator_type",
    ),
    "a variable with NUL": ('[options.env_vars]\nA = "x\\u0000y"', "A holds NUL"),
    "a variable with =": ('[options.env_vars]\n"A=B" = "x"', "'A=B' is no name"),
    "a variable without a name": ('[options.env_vars]\n"" = "x"', "is no name"),
    "a library before all others": (
        '[options.env_vars]\nLD_PRELOAD = "evil.so"',
        "LD_PRELOAD cannot be wished for",
    ),
    "modules before the tree": ('[options.env_vars]\nPYTHONPATH = "/x"', "cannot be wished for"),
    "a setting of Ray's": ('[options.env_vars]\nRAY_ADDRESS = "x:1"', "cannot be wished for"),
    "fixed and scaling": (
        "[options]\nnum_replicas = 2\nautoscaling_config = { max_replicas = 3 }",
        "keep one",
    ),
    "a pipeline that is not there": (
        "[pipelines.rose.options]\nthreads = 1",
        "acme/wheelway.toml:1: pipelines.rose: this wheel has no such pipeline, only iris, other",
    ),
    "pipelines that is no table": ("pipelines = 3", "acme/wheelway.toml:1: pipelines: must be"),
    "brackets without end": ("a = " + "[" * 50_000, "not valid TOML"),
    "dots without end": ("a" + ".a" * 30_000 + " = 1", "nested deeper than 32"),
    "arrays in arrays": ("a = " + "[" * 40 + "]" * 40, "nested deeper than 32"),
    "megabytes": ("a = 1\n" * 20_000, "has 120000 bytes, at most 65536 are read"),
}


@pytest.mark.parametrize(
    ("key", "said"),
    [("pins = ['1']", "the operator's to say"), ("threads = 1", "[pipelines.NAME.options]")],
)
def test_what_is_misplaced_for_one_pipeline_is_told_where_it_belongs(key, said):
    found = read(acme=f"[pipelines.iris]\n{key}")
    assert f"pipelines.iris.{key.partition(' ')[0]}: unknown key; " in found["iris"].refusal.message
    assert said in found["iris"].refusal.message
    assert found["wine"].refusal is None


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_refuses_the_pipelines_of_that_package_with_file_line_and_key(case):
    text, expected = MISTAKES[case]
    found = read(acme=text)
    for name in ("iris", "wine"):
        refusal = found[name].refusal
        assert (refusal.subject, refusal.reason) == (f"{name} 1.0", "WishesInvalid")
        assert expected in refusal.message
        assert (found[name].options, found[name].settings) == ({}, {})
    assert found["other"].refusal is None


def test_a_mistake_in_one_pipelines_table_leaves_its_sister_alone():
    found = read(acme="[options]\nthreads = 2\n[pipelines.iris.options]\nthreads = 0\n")
    assert "acme/wheelway.toml:4: pipelines.iris.options.threads" in found["iris"].refusal.message
    assert (found["wine"].refusal, found["wine"].options) == (None, {"threads": 2})


NUMBERS = ["0", "-1", "1", "0.5", "1e308", "1" + 400 * "0", "inf", "nan", "true", '"1e400"', '"9d"']
NUMBERS += [str(2**31 - 1), str(2**31), str(2**63), '"9999999d"', '"99999999999TiB"', "2024-01-01"]


@pytest.mark.parametrize("number", NUMBERS)
def test_whatever_number_an_author_writes_is_refused_or_ray_converts_it(number):
    renderer = Renderer(wheelway="0.1.0")
    tables = {
        "options": Options.model_fields,
        "options.ray_actor_options": ActorOptions.model_fields,
        "options.ray_actor_options.resources": {"x"},
        "options.autoscaling_config": AUTOSCALING,
    }
    for table, keys in tables.items():
        for key in keys:
            entry = read(acme=f"[{table}]\n{key} = {number}\n")["iris"]
            if entry.refusal is not None:
                assert entry.refusal.reason == "WishesInvalid"
                continue
            try:
                options = effective(ServeOptions(), entry.options, None)
                document = placed(renderer, options)
            except Rejected as refusal:
                assert refusal.reason in {"OptionAboveCap", "OptionsRefused"}  # noqa: PT017 - some are
            else:
                renderer.validate({"applications": [document]})


def placed(renderer, options):
    release = Release("iris", Version("1.0"), "a" * 64)
    artifact = Artifact(
        digest=release.digest,
        project="acme",
        version=release.version,
        filename="acme-1.0-py3-none-any.whl",
        size=1,
        wheel=Path("/cache/x.whl"),
        tree=Path("/cache/tree"),
        record_digest="b" * 64,
        requires=(),
        pipelines=(),
    )
    entry = PipelineEntry("iris", "acme.iris:Iris", {}, {})
    return renderer.place(release, entry, artifact, Environment("", None), options, {}).document


def test_durations_and_sizes_may_say_their_unit():
    found = read(
        acme="""
        [options]
        request_timeout = "1m30s"
        health_check_period = "500ms"
        max_request_bytes = "16MiB"
        ray_actor_options = { memory = "2GB" }
        """
    )
    assert found["iris"].options == {
        "request_timeout": 90.0,
        "health_check_period": 0.5,
        "max_request_bytes": 16 * 2**20,
        "ray_actor_options": {"memory": 2_000_000_000},
    }


# -- the build backends --------------------------------------------------------------------------

PROJECT = """
[project]
name = "acme-demo"
version = "1.0"

[project.entry-points."wheelway.pipelines"]
demo = "acme_demo.pipeline:Demo"

[project.entry-points."wheelway.parts"]
"demo.risk" = "acme_demo.pipeline:Risk"
"""

BACKENDS = {
    "setuptools": """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[tool.setuptools.package-data]
"*" = ["wheelway.toml"]
""",
    "hatchling": """
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"
""",
    "uv_build": """
[build-system]
requires = ["uv_build>=0.9"]
build-backend = "uv_build"
""",
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_build_backend_ships_the_wishes(tmp_path, backend):
    uv = Path(sys.executable).with_name("uv")
    if os.environ.get("UV_OFFLINE"):
        pytest.skip("needs a package index")
    package = tmp_path / "src" / "acme_demo"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "pipeline.py").write_text("class Demo: ...\nclass Risk: ...\n")
    (package / "wheelway.toml").write_text(
        "[options]\nthreads = 3\n[parts.risk.options]\nthreads = 1\n"
    )
    (tmp_path / "pyproject.toml").write_text(PROJECT + BACKENDS[backend])
    subprocess.run([uv, "build", "--wheel", "--quiet"], cwd=tmp_path, check=True, timeout=240)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "acme_demo/wheelway.toml" in archive.namelist()
    limits, tags = InspectionLimits(), tuple(sys_tags())
    found = inspect(wheel, revision_of(wheel), limits, tags, "3.11.7", tmp_path / "tree")
    [pipeline] = found.pipelines
    assert pipeline.options == {"threads": 3}
    assert pipeline.parts == (PartEntry("risk", "acme_demo.pipeline:Risk", {"threads": 1}),)
