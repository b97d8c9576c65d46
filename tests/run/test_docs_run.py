"""What docs/run.md says is so: its scripts and manifests are right, its options and files are there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from diagnose.sources.launch import read
from tests.support import ROOT

GUIDE = (ROOT / "docs" / "run.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "bash"])
def test_scripts_are_right(text: str) -> None:
    """As far as bash can say without running them."""
    assert subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True).returncode == 0


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "yaml"])
def test_manifests_are_right(text: str) -> None:
    """Every volume that is mounted is there, and both containers run llmdoctor."""
    spec = yaml.safe_load(text)["spec"]["template"]["spec"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["command"][0] == "llmdoctor"
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_options_are_those_that_there_are() -> None:
    """Each option of `run` that the guide names is in its help."""
    told = subprocess.run(
        [sys.executable, "-m", "diagnose", "run", "--help"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    section = GUIDE.split("## Options")[1].split("\n\n")[1]
    options = re.findall(r"`(--[a-z-]+)", section)

    assert len(options) >= 7
    assert [option for option in options if option not in told] == []


def test_the_launch_of_the_guide_is_understood() -> None:
    """The command behind -- is one that is known."""
    words = ["torchrun", "--nproc_per_node", "8", "train.py", "--config", "train.yaml"]
    told = {getattr(item, "name", "") for item in read(words, (), {}, str(ROOT))}

    assert "deploy.launcher" in told
