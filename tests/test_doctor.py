"""The doctor says what is wrong with an installation, and nothing where nothing is."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmark import doctor, model_zoo
from benchmark.command_line.tables import print_findings
from benchmark.doctor import PACKAGES, Diagnosis, examine
from benchmark.errors import UnreadablePicture
from stimuli import bundled


def by_name(findings: list[Diagnosis]) -> dict[str, Diagnosis]:
    assert len({finding.what for finding in findings}) == len(findings)
    return {finding.what: finding for finding in findings}


def failures(findings: list[Diagnosis]) -> list[str]:
    return [finding.what for finding in findings if finding.state == "fail"]


def test_this_installation_is_whole() -> None:
    findings = examine()
    assert failures(findings) == []
    found = by_name(findings)
    assert set(PACKAGES) <= set(found)
    assert found["torch"].found == version("torch")
    assert found["timm"].found == version("timm")
    for name in ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"):
        assert name in found["weights on this machine"].found
    assert found["bundled photographs"].found == "20 of 20"
    assert "GiB free" in found["disk"].found


@pytest.mark.parametrize("name", ["analysis", "stimuli", "webapp"])
def test_a_package_of_the_same_name_in_front_of_ours_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    found = by_name(doctor._packages())
    assert failures(list(found.values())) == [name]
    for word in (str(tmp_path / name), "not vimi's", "environment of its own"):
        assert word in found[name].found


def test_a_package_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    find = doctor.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda name, *rest: None if name == "webapp" else find(name, *rest)
    )
    found = by_name(doctor._packages())
    assert failures(list(found.values())) == ["webapp"]
    assert "not installed" in found["webapp"].found


def test_a_dependency_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {**doctor.package_versions(), "torch-lucent": "not installed"}
    monkeypatch.setattr(doctor, "package_versions", lambda: dict(versions))
    assert failures(doctor._python()) == ["torch-lucent"]


def test_torch_and_torchvision_of_different_builds_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.ops

    def broken(*arguments: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    found = by_name(doctor._torch())
    assert failures(list(found.values())) == ["torchvision's operators"]
    assert "install both in one go" in found["torchvision's operators"].found
    assert "and more" not in found["torchvision's operators"].found


def test_bundled_weights_that_are_missing_are_a_failure_and_others_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(doctor._models()) == []
    assert "resnet50" in by_name(doctor._models())["weights to be downloaded"].found
    assert by_name(doctor._models())["weights to be downloaded"].state == "note"
    monkeypatch.setattr(model_zoo, "weights_on_machine", lambda card: None)
    assert failures(doctor._models()) == ["weights on this machine"]


def test_a_broken_photograph_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise UnreadablePicture(f"{name} can't be read: truncated")

    monkeypatch.setattr(bundled, "photograph", broken)
    findings = doctor._photographs()
    assert failures(findings) == ["bundled photographs"]
    assert "truncated" in findings[0].found


def test_findings_are_printed_with_their_number_of_failures(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings(
        [Diagnosis("ok", "one", "fine"), Diagnosis("fail", "two", "broken"), Diagnosis("note", "three", "odd")]
    )
    out = capsys.readouterr().out
    assert "1 problem" in out
    for word in ("one", "fine", "two", "broken", "three", "odd"):
        assert word in out
    print_findings([Diagnosis("ok", "one", "fine")])
    assert "Everything is in place" in capsys.readouterr().out
