"""A manifest means a complete stage, and names the commit of the code that wrote it."""

import subprocess

import pytest

from wcse_lib.store import StudyError, is_complete, manifest, read_json, write_manifest


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository that holds this package, and beside it an environment where it is installed."""
    for place in ("wcse_lib", "env/wcse_lib"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "module.py").write_text("")
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def head(checkout):
    asked = ["git", "-C", checkout, "rev-parse", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def test_the_recorded_commit_is_the_packages_own(checkout, head):
    manifest.write_manifest(checkout / "a", "p", {})
    assert read_json(checkout / "a/manifest.json")["commit"] == head


def test_changed_code_is_recorded(checkout, head):
    (checkout / "wcse_lib/module.py").write_text("changed")
    assert manifest.commit() == head + " with uncommitted changes"


def test_a_repository_that_merely_holds_the_installed_package_is_not_named(checkout, monkeypatch):
    monkeypatch.setattr(manifest, "ROOT", checkout / "env")
    assert manifest.commit() == ""


def test_a_manifest_means_complete_under_its_plan(tmp_path):
    assert not is_complete(tmp_path, "a")
    write_manifest(tmp_path, "a", {"n": 1})
    assert is_complete(tmp_path, "a")
    assert not is_complete(tmp_path, "b")


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StudyError, match="manifest.json: damaged"):
        is_complete(tmp_path, "a")


def test_two_arms_whose_folders_were_swapped_are_named(tmp_path):
    for arm in ("se", "wc"):
        (tmp_path / arm).mkdir()
        write_manifest(tmp_path / arm, "a plan", {})
        assert is_complete(tmp_path / arm, "a plan")
    for before, after in (("se", "x"), ("wc", "se"), ("x", "wc")):
        (tmp_path / before).rename(tmp_path / after)
    for arm, other in (("se", "wc"), ("wc", "se")):
        with pytest.raises(StudyError, match=f"{arm}: was made as {other}.*rename it back"):
            is_complete(tmp_path / arm, "a plan")
