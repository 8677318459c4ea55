"""What `[[sources]]` may say, and what is told of what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.cli.configuration import sentences
from controller.cli.reference import text
from controller.config.loading import parse
from controller.config.settings import DirectorySource, IndexSource
from controller.config.sources import kinds
from controller.errors import ConfigError

pytestmark = pytest.mark.unit

INDEX = (
    '[[sources]]\ntype = "index"\nurl = "https://index.example.com/simple/"\npackages = ["A_B"]\n'
)


def read(text):
    return parse(text, Path("/etc/wheelway/controller.toml"))


def test_an_index_needs_a_url_and_packages():
    [source] = read(INDEX).sources
    assert isinstance(source, IndexSource)
    assert (source.name, source.url) == ("index", "https://index.example.com/simple")
    assert source.packages == ("a-b",)
    assert (source.poll_interval, source.require_hashes) == (30, True)


def test_sources_of_several_kinds_stand_beside_each_other():
    directory = '[[sources]]\ntype = "directory"\npath = "wheels"\n'
    config = read(INDEX + 'token_file = "token"\n' + directory)
    index, folder = config.sources
    assert isinstance(folder, DirectorySource)
    assert index.token_file == Path("/etc/wheelway/token")
    assert "index (https://index.example.com/simple)" in next(sentences(config))


MISTAKES = {
    'username = "a"\n': "`username` and `password_file` need each other",
    'password_file = "p"\n': "`username` and `password_file` need each other",
    'username = "a:b"\npassword_file = "p"\n': "cannot have a colon",
    'token_file = "t"\nnetrc = "n"\n': "choose one of",
    'token_file = "t"\nusername = "a"\npassword_file = "p"\n': "choose one of",
    'allowed_hosts = ["https://files.example.com"]\n': "is no host",
    'allowed_hosts = ["files.example.com:443"]\n': "is no host",
    'allowed_hosts = ["*"]\n': "is no host",
    "timeout = 0\n": "greater than 0",
    "max_response_bytes = 0\n": "greater than 0",
    'tokenfile = "t"\n': "unknown key",
}


@pytest.mark.parametrize(("more", "told"), MISTAKES.items())
def test_a_mistake_is_told_with_its_line_and_without_the_kind(more, told):
    with pytest.raises(ConfigError) as caught:
        read(INDEX + more)
    assert told in caught.value.message
    assert "sources.0" in caught.value.message
    assert ".index" not in caught.value.message.replace("index.example", "")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://alice:hunter2@index.example.com/simple", "credentials do not belong"),
        ("https://alice@index.example.com/simple", "credentials do not belong"),
        ("https://index.example.com/simple?x=1", "without `?`"),
        ("ftp://index.example.com/simple", "must be a URL such as"),
        ("index.example.com", "must be a URL such as"),
    ],
)
def test_an_address_that_is_no_index_root_is_refused_without_repeating_it(url, told):
    with pytest.raises(ConfigError) as caught:
        read(f'[[sources]]\ntype = "index"\npackages = ["a"]\nurl = "{url}"\n')
    assert caught.value.message.startswith("/etc/wheelway/controller.toml:4: sources.0.url: ")
    assert told in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("packages", ["[]", '["a/b"]', '["-a"]', '[""]', '["../x"]'])
def test_packages_are_names_or_globs(packages):
    with pytest.raises(ConfigError, match=r"sources\.0\.packages"):
        read(f'[[sources]]\ntype = "index"\nurl = "http://h/simple"\npackages = {packages}\n')


@pytest.mark.parametrize("glob", ["*", "acme-*", "*_model", "a?c", "acme-[a-c]*"])
def test_globs_are_taken(glob):
    text = f'[[sources]]\ntype = "index"\nurl = "http://h/simple"\npackages = ["{glob}"]\n'
    assert read(text).sources[0].packages == (glob.replace("_", "-"),)


@pytest.mark.parametrize("kind", ["", 'type = "indx"\n'])
def test_a_source_of_no_known_kind_is_told_which_there_are(kind):
    with pytest.raises(ConfigError) as caught:
        read(f"\n[[sources]]\n{kind}")
    assert "sources.0.type: " in caught.value.message
    assert all(name in caught.value.message for name in kinds())


def test_every_kind_is_in_the_reference():
    said = text()
    assert set(kinds()) >= {"directory", "index"}
    for kind in kinds():
        assert f'type  ("{kind}", required)' in said
    assert said.count("[[sources]]") == len(kinds())
