"""The testable promises of SECURITY.md."""

import os
import re
from pathlib import Path

import pytest

from faults import PARTS, VALUES
from scaffold_torchtune.cli import main
from scaffold_torchtune.system import files, processes, serialization, templating
from scaffold_torchtune.system.serialization import MAX_YAML_BYTES
from support.disturbed import MOST_MEGABYTES
from support.memory import LARGE, LOADS, RUNS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()


def test_it_is_linked_and_has_a_section_for_each_question() -> None:
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == [
        "What is promised", "What is not", "Reporting a vulnerability"
    ]  # fmt: skip
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / link).exists()


def test_its_numbers_are_the_measured_ones() -> None:
    assert f"{MOST_MEGABYTES} MB for {RUNS:,} runs and data sets of {LARGE // 10**6} MB" in TEXT
    assert {load.runs for load in LOADS} == {RUNS, 1}
    assert len([load for load in LOADS if load.written]) == 3
    assert {"calls", "races", "values", "frames", "memory"} == set(PARTS)
    assert VALUES == 1_000


def test_the_size_of_input_is_bounded() -> None:
    assert files.MAX_READ <= 10_000_000
    assert MAX_YAML_BYTES <= 1_000_000
    assert templating.MAX_TEMPLATE <= 1_000_000
    assert serialization.MAX_JSON_VALUE <= 4 * 1024**2
    assert templating.Limits().megabytes <= 200


def test_its_options_and_variables_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scaffold", "--help"])
    usage = capsys.readouterr().out
    for option in set(re.findall(r"--[a-z-]+", TEXT)) - {"--version"}:
        assert option in usage, option
    source = "".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    for name in set(re.findall(r"SCAFFOLD_TORCHTUNE_[A-Z_]+", TEXT)):
        assert f'"{name}"' in source, name


def test_no_program_receives_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "MY_API_KEY", "DB_PASSWORD"):
        monkeypatch.setenv(name, "0123456789abcdef")
        assert name not in processes.environment(os.environ)
    assert "0123456789abcdef" not in processes.without_secrets("it is 0123456789abcdef")
