"""The repository as uv's package index: real uv, real tokens of the stand-in, nothing told."""

from __future__ import annotations

import logging
import os
import stat
import time

import pytest

from controller.cache.environments.base import detect
from controller.cache.environments.builder import Environments
from controller.cache.environments.uv import Uv
from controller.config.settings import EnvironmentOptions
from controller.config.sources import CodeArtifactSource as Options
from controller.errors import Stalled, Transient
from controller.model import Artifact
from controller.sources.codeartifact import CodeArtifactIndex
from tests.support.codeartifact import access_denied, internal_error
from tests.support.simple_index import SimpleIndex
from tests.support.wheels import make_wheel, revision_of

pytestmark = pytest.mark.unit

ENDPOINT, TOKEN = "GetRepositoryEndpoint", "GetAuthorizationToken"


@pytest.fixture(scope="module")
def base():
    return detect()


@pytest.fixture
def indexed(at_standin):
    """Opens the stand-in's repository as an index."""
    made = []

    def opener(**how):
        options = Options(type="codeartifact", domain="acme", repository="pipelines")
        made.append(CodeArtifactIndex(options, **{"use": 600.0, **how}))
        return made[-1]

    yield opener
    for index in made:
        index.close()


def token_of(index):
    return index.variables()["UV_INDEX_WHEELWAY_PASSWORD"]


def artifact_of(wheel, requires):
    revision = revision_of(wheel)
    return Artifact(
        digest=revision.sha256,
        project=revision.project,
        version=revision.version,
        filename=revision.filename,
        size=revision.size,
        wheel=wheel,
        tree=wheel.parent / "tree",
        record_digest=revision.sha256,
        requires=tuple(requires),
        pipelines=(),
    )


@pytest.fixture
def environments(tmp_path, base, indexed):
    environ = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "uv"), "UV_HTTP_RETRIES": "0"}

    def opener(index=None, **options):
        return Environments(
            tmp_path / "cache",
            base,
            EnvironmentOptions(index="codeartifact", **options),
            environ=environ,
            index=index or indexed(),
        )

    return opener


def everything_in(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# -- tokens --------------------------------------------------------------------------------------


def test_a_token_is_asked_for_once_and_used_until_its_margin(indexed, at_standin):
    now = time.time()
    clock = [now]
    index = indexed(clock=lambda: clock[0])
    first = token_of(index)
    clock[0] = now + 3600 - 600 - 60 - 5
    assert token_of(index) == first
    assert [call.operation for call in at_standin.asked()] == [ENDPOINT, TOKEN]
    clock[0] = now + 3600 - 600 - 60 + 5
    assert token_of(index) != first
    assert [call.operation for call in at_standin.asked()] == [ENDPOINT, TOKEN, TOKEN]


@pytest.mark.parametrize(("use", "asked"), [(10, 3600), (3600, 7320), (100_000, 43200)])
def test_a_token_is_asked_to_live_for_twice_its_use(indexed, at_standin, use, asked):
    token_of(indexed(use=use))
    [call] = at_standin.asked("GetAuthorizationToken")
    assert call.asked.params["durationSeconds"] == asked


def test_uv_gets_the_address_without_the_secret(indexed, at_standin):
    variables = indexed().variables()
    assert variables["UV_DEFAULT_INDEX"] == f"wheelway={at_standin.packages_url}simple/"
    assert variables["UV_INDEX_WHEELWAY_USERNAME"] == "aws"
    secrets = [name for name in variables if name.endswith("_PASSWORD")]
    assert secrets == ["UV_INDEX_WHEELWAY_PASSWORD"]


def test_the_token_is_in_no_representation(indexed):
    index = indexed()
    token = token_of(index)
    assert token not in repr(index._token)
    assert token not in repr(vars(index))


def test_a_token_that_may_not_be_had_is_told_with_its_action(indexed, at_standin):
    at_standin.inject("GetAuthorizationToken", access_denied())
    index = indexed()
    with pytest.raises(Stalled) as caught:
        index.variables()
    assert caught.value.reason == "AccessDenied"
    assert "codeartifact:GetAuthorizationToken" in caught.value.message
    assert ":domain/acme" in caught.value.message
    assert token_of(index)


# -- uv ------------------------------------------------------------------------------------------


def test_requirements_come_from_the_repository_and_the_token_stays_nowhere(
    environments, indexed, at_standin, tmp_path, wheel, caplog
):
    at_standin.shelf.publish(make_wheel(tmp_path / "third", "zz-third-party", "1.2"))
    index = indexed()
    with caplog.at_level(logging.DEBUG):
        made = environments(index).prepare(artifact_of(wheel, ["zz-third-party>=1"]))
    token = token_of(index)
    assert made.python
    lock = next((tmp_path / "cache/locks").glob("*.txt")).read_text()
    assert "zz-third-party==1.2" in lock
    assert at_standin.url not in lock
    assert token.encode() not in everything_in(tmp_path / "cache")
    assert token.encode() not in everything_in(tmp_path / "uv")
    assert token not in caplog.text
    assert len(at_standin.asked(TOKEN)) == 1


def test_a_refused_token_is_told_without_it_and_not_handed_out_again(
    environments, indexed, at_standin, tmp_path, wheel, base
):
    at_standin.shelf.publish(make_wheel(tmp_path / "third", "zz-third-party", "1.2"))
    index = indexed()
    first = token_of(index)
    at_standin.access._tokens.clear()
    room = environments(index)
    with pytest.raises(Stalled) as caught:
        room.prepare(artifact_of(wheel, ["zz-third-party>=1"]))
    assert caught.value.reason == "IndexUnauthorized"
    assert "`environments.index`" in caught.value.message
    chain, seen = caught.value, []
    while chain is not None:
        seen.append(f"{chain!r} {vars(chain)}")
        chain = chain.__cause__ or chain.__context__
    assert first not in "".join(seen)
    assert room.prepare(artifact_of(wheel, ["zz-third-party>=1"])).python
    assert token_of(index) != first


def test_without_a_token_nothing_is_started(environments, at_standin, tmp_path, wheel):
    at_standin.inject("GetAuthorizationToken", internal_error(), times=3)
    with pytest.raises(Transient) as caught:
        environments().prepare(artifact_of(wheel, ["zz-third-party>=1"]))
    assert caught.value.reason == "AwsFailed"
    assert at_standin.asked("Simple") == []


def test_what_uv_says_is_told_without_the_token(indexed, tmp_path):
    index = indexed()
    token = token_of(index)
    binary = tmp_path / "uv"
    binary.write_text(
        '#!/bin/sh\necho "error: it is $UV_INDEX_WHEELWAY_PASSWORD, '
        'https://aws:$UV_INDEX_WHEELWAY_PASSWORD@host/ " >&2\nexit 2\n'
    )
    binary.chmod(stat.S_IRWXU)
    uv = Uv(binary, EnvironmentOptions(), tmp_path / "cache", {}, index=index)
    with pytest.raises(Transient) as caught:
        uv.run("pip", "compile", "-", until=time.monotonic() + 30)
    assert caught.value.message == "uv ended with 2: it is ***, https://***@host/"
    assert token not in caught.value.message
    with pytest.raises(Transient) as slow:
        uv.run("pip", "compile", "-", until=time.monotonic() - 1)
    assert token not in f"{slow.value!r} {slow.value.__cause__!r} {vars(slow.value.__cause__)}"


def test_no_other_index_of_the_environment_reaches_uv(indexed, tmp_path):
    binary = tmp_path / "uv"
    binary.write_text("#!/bin/sh\nenv\n")
    binary.chmod(stat.S_IRWXU)
    names = ("INDEX", "INDEX_URL", "DEFAULT_INDEX", "EXTRA_INDEX_URL", "FIND_LINKS", "CONFIG_FILE")
    environ = {f"UV_{name}": "https://elsewhere/simple" for name in names}
    environ |= {"UV_NO_INDEX": "elsewhere", "UV_INDEX_STRATEGY": "elsewhere"}
    environ |= {"UV_INDEX_WHEELWAY_PASSWORD": "elsewhere", "UV_INDEX_OTHER_USERNAME": "elsewhere"}
    environ |= {"UV_NATIVE_TLS": "true", "UV_HTTP_TIMEOUT": "7", "HTTPS_PROXY": "http://proxy"}
    index = indexed()
    uv = Uv(binary, EnvironmentOptions(), tmp_path / "cache", environ, index=index)
    said = uv.run("pip", "compile", until=time.monotonic() + 30)
    told = dict(line.split("=", 1) for line in said.splitlines())
    assert "elsewhere" not in said
    assert told.items() >= {**index.variables(), "UV_NO_CONFIG": "1"}.items()
    assert (told["UV_NATIVE_TLS"], told["UV_HTTP_TIMEOUT"]) == ("true", "7"), "the way there stays"
    assert told["HTTPS_PROXY"] == "http://proxy"


def test_uv_resolves_from_the_repository_alone_whatever_its_own_configuration_names(
    base, indexed, at_standin, tmp_path, wheel
):
    at_standin.shelf.publish(make_wheel(tmp_path / "third", "zz-third-party", "1.2"))
    settings = tmp_path / "config/uv/uv.toml"
    settings.parent.mkdir(parents=True)
    with SimpleIndex() as elsewhere:
        elsewhere.publish(make_wheel(tmp_path / "evil", "zz-third-party", "99.0"))
        settings.write_text(
            f'index-strategy = "unsafe-best-match"\n[[index]]\nname = "evil"\n'
            f'url = "{elsewhere.url}"\n[pip]\nextra-index-url = ["{elsewhere.url}"]\n'
        )
        environ = {
            **os.environ,
            "UV_CACHE_DIR": str(tmp_path / "uv"),
            "UV_EXTRA_INDEX_URL": elsewhere.url,
            "UV_INDEX": elsewhere.url,
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
        }
        options = EnvironmentOptions(index="codeartifact")
        room = Environments(tmp_path / "cache", base, options, environ=environ, index=indexed())
        room.prepare(artifact_of(wheel, ["zz-third-party>=1"]))
        assert elsewhere.asked == []
    lock = next((tmp_path / "cache/locks").glob("*.txt")).read_text()
    assert "zz-third-party==1.2" in lock
