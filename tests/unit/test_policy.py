"""Which releases are elected."""

from dataclasses import replace

import pytest
from packaging.version import Version

from controller.config.settings import Config, PipelinePolicy
from controller.model import Artifact, Availability, PipelineEntry, Revision
from controller.planning.paths import path_of
from controller.planning.policy import LEAVING, PUSHED_OUT, Case, elect, rule_for, unfetched
from tests.support.world import candidate, release, rule

pytestmark = pytest.mark.unit


def judged(*args, **kwargs):
    return {
        f"{v.release.version}{v.release.digest[0]}": ("+" if v.elected else "-") + v.reason
        for v in elect(Case(*args, **kwargs))
    }


def test_the_newest_two_are_elected_by_version_not_by_text():
    candidates = [candidate("1.9"), candidate("1.10"), candidate("1.2")]
    assert judged(candidates, rule()) == {
        "1.10a": "+Elected",
        "1.9a": "+Elected",
        "1.2a": "-NotKept",
    }


def test_an_epoch_outranks_every_version_without_one():
    candidates = [candidate("2026.1"), candidate("1!0.1")]
    assert judged(candidates, rule(keep=1)) == {"1!0.1a": "+Elected", "2026.1a": "-NotKept"}


def test_post_releases_and_local_versions_are_newer_than_what_they_follow():
    candidates = [candidate("1.0"), candidate("1.0.post1"), candidate("1.0+cu1")]
    assert judged(candidates, rule(keep=1))["1.0.post1a"] == "+Elected"
    assert judged(candidates[::2], rule(keep=1))["1.0+cu1a"] == "+Elected"


@pytest.mark.parametrize("version", ["2.0rc1", "2.0a1", "2.0.dev3"])
def test_prereleases_are_left_out_even_when_nothing_final_matches(version):
    assert judged([candidate(version)], rule(">=1")) == {f"{version}a": "-PrereleaseExcluded"}
    allowed = judged([candidate(version)], rule(">=1", prereleases=True))
    assert allowed == {f"{version}a": "+Elected"}


def test_versions_outside_the_specifier_are_excluded_and_take_no_place():
    candidates = [candidate("3.0"), candidate("2.0"), candidate("1.0"), candidate("0.9")]
    assert judged(candidates, rule(">=1,<3")) == {
        "3.0a": "-VersionExcluded",
        "2.0a": "+Elected",
        "1.0a": "+Elected",
        "0.9a": "-VersionExcluded",
    }


def test_an_inactive_pipeline_elects_nothing():
    assert judged([candidate()], rule(active=False)) == {"1.0a": "-Inactive"}


def test_pins_elect_exactly_the_pinned_versions():
    candidates = [candidate("3.0"), candidate("2.0"), candidate("1.0")]
    pinned = rule(pins=(Version("1.0"),), keep=1)
    verdicts = judged(candidates, pinned)
    assert verdicts == {"3.0a": "-NotPinned", "2.0a": "-NotPinned", "1.0a": "+Elected"}


def test_a_quarantined_newest_version_takes_no_place_among_those_kept():
    candidates = [candidate("3.0"), candidate("2.0"), candidate("1.0")]
    verdicts = judged(candidates, rule(), quarantined={release("3.0")})
    assert verdicts == {"3.0a": "-Quarantined", "2.0a": "+Elected", "1.0a": "+Elected"}


def test_what_serves_stands_in_for_quarantined_bytes_of_the_same_version():
    verdicts = judged(
        [candidate("1.0", "b")],
        rule(),
        serving={release("1.0", "a")},
        quarantined={release("1.0", "b")},
    )
    assert verdicts == {"1.0b": "-Quarantined", "1.0a": "+StandsIn"}


def test_a_release_that_serves_stands_in_for_its_own_failed_new_options():
    same = release("1.0", "a")
    verdicts = judged([candidate("1.0", "a")], rule(), serving={same}, quarantined={same})
    assert verdicts == {"1.0a": "+StandsIn"}


def test_republished_bytes_replace_those_that_serve():
    verdicts = judged([candidate("1.0", "b")], rule(), serving={release("1.0", "a")})
    assert verdicts == {"1.0b": "+Elected", "1.0a": "-Replaced"}


ALPHA, BETA = candidate("1.0", "a", project="alpha"), candidate("2.0", "b", project="beta")


def test_a_higher_version_of_another_project_does_not_take_over_the_name():
    for claims in ([ALPHA, BETA], [BETA, ALPHA]):
        refused = judged(claims, rule(), owner="alpha")
        assert refused == {"1.0a": "+Elected", "2.0b": "-Conflict"}
    assert judged([BETA], rule(), owner="alpha") == {"2.0b": "-Conflict"}


def test_what_serves_under_anothers_name_stays_until_the_operator_gives_that_name_to_it_or_away():
    both = {ALPHA.release, BETA.release}
    kept = judged([ALPHA, BETA], rule(), owner="alpha", serving=both)
    assert kept == {"1.0a": "+Elected", "2.0b": "-Conflict"}
    moved = judged([ALPHA, BETA], rule(project="beta"), owner="beta", serving=both)
    assert moved == {"2.0b": "+Elected", "1.0a": "-ProjectMoved"}
    assert "Conflict" not in LEAVING
    assert "ProjectMoved" in PUSHED_OUT


def test_a_moved_name_takes_nothing_away_while_its_new_owner_has_nothing_fit():
    moved = rule(project="beta")
    assert judged([ALPHA], moved, owner="beta", serving={ALPHA.release}) == {"1.0a": "-Conflict"}
    bad = replace(BETA, release=release("1.0", "b"))
    how = {"owner": "beta", "serving": {ALPHA.release}, "quarantined": {bad.release}}
    assert judged([ALPHA, bad], moved, **how) == {"1.0a": "+StandsIn", "1.0b": "-Quarantined"}
    assert judged([ALPHA, bad], moved, **{**how, "quarantined": set()}) == {
        "1.0a": "-Replaced",
        "1.0b": "+Elected",
    }


def test_a_version_that_only_another_project_lists_is_absent():
    gone = judged([BETA], rule(), owner="alpha", serving={release("2.0", "a")})
    assert gone == {"2.0a": "-Absent", "2.0b": "-Conflict"}


def test_a_retained_revision_is_never_newly_elected_but_goes_on_where_it_runs():
    yanked = candidate("1.0", availability=Availability.RETAINED)
    assert judged([yanked], rule()) == {"1.0a": "-NotSelectable"}
    assert judged([yanked], rule(), serving={release("1.0")}) == {"1.0a": "+Elected"}


def test_what_no_source_lists_any_more_is_absent():
    verdicts = judged([candidate("2.0")], rule(), serving={release("1.0")})
    assert verdicts == {"2.0a": "+Elected", "1.0a": "-Absent"}


def test_what_the_operator_excludes_leaves_by_his_word_though_no_source_lists_it():
    # By "Absent" the retire limit could keep it, against what that limit's message promises.
    serving = {release("1.0")}
    assert judged([], rule(active=False), serving=serving) == {"1.0a": "-Inactive"}
    assert judged([], rule(">=2"), serving=serving) == {"1.0a": "-VersionExcluded"}


def test_what_is_missing_and_never_served_takes_no_place_from_what_serves():
    missing = {release("3.0"), release("2.0")}
    verdicts = judged(
        [candidate("1.0")],
        rule(),
        serving={release("1.0")},
        present={release("1.0"), *missing},
        missing=missing,
    )
    assert verdicts == {"3.0a": "-Missing", "2.0a": "-Missing", "1.0a": "+Elected"}


def test_what_may_only_be_missing_for_a_moment_keeps_its_place_among_those_kept():
    serving = {release("3.0"), release("2.0")}
    offered = [candidate("2.0"), candidate("1.0")]
    verdicts = judged(offered, rule(), serving=serving, missing={release("3.0")})
    assert verdicts == {"3.0a": "-Missing", "2.0a": "+Elected", "1.0a": "-NotKept"}
    excluded = rule("<3")
    verdicts = judged(offered, excluded, serving=serving, missing={release("3.0")})
    assert verdicts == {"3.0a": "-VersionExcluded", "2.0a": "+Elected", "1.0a": "+Elected"}


def test_the_first_matching_rule_wins_and_globs_match():
    config = Config(
        pipelines=(
            PipelinePolicy(name="acme-iris", keep=1),
            PipelinePolicy(name="acme-*", keep=5),
        )
    )
    assert rule_for("acme-iris", config).keep == 1
    assert rule_for("acme-other", config).keep == 5
    assert rule_for("else", config).keep == 2


def test_unlisted_pipelines_can_be_inactive():
    config = Config(policy={"unlisted": "inactive"})
    assert not rule_for("iris", config).active


def revision(version, digest="a", project="iris"):
    filename = f"{project}-{version}-py3-none-any.whl"
    return Revision("wheels", project, Version(version), filename, filename, digest * 64, 1)


def artifact(revision, *names, tmp_path):
    entries = tuple(PipelineEntry(name, "m:P", {}, {}) for name in names)
    return Artifact(
        revision.sha256,
        revision.project,
        revision.version,
        revision.filename,
        1,
        tmp_path,
        tmp_path,
        "",
        (),
        entries,
    )


def test_of_an_unknown_project_only_the_newest_wheel_is_fetched_first(tmp_path):
    old, new, rc = revision("1.0", "a"), revision("2.0", "b"), revision("3.0rc1", "c")
    assert unfetched([old, new, rc], {}, Config()) == (new,)


def test_once_its_pipelines_are_known_what_policy_would_elect_is_fetched(tmp_path):
    revisions = [revision("1.0", "a"), revision("2.0", "b"), revision("3.0", "c")]
    known = {revisions[2].sha256: artifact(revisions[2], "iris", tmp_path=tmp_path)}
    assert unfetched(revisions, known, Config()) == (revisions[1],)


def test_other_bytes_of_a_version_take_its_route_however_they_spell_it():
    [elected, replaced] = elect(
        Case([candidate("1.0.0", "b")], rule(), serving={release("1.0", "a")})
    )
    assert (elected.elected, replaced.reason) == (True, "Replaced")
    assert path_of(elected.release) == path_of(replaced.release) == "/predict/iris/1.0"
