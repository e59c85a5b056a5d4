"""`new`: refusals before anything is written, and nothing left after a failure."""

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from scaffold_torchtune import new
from scaffold_torchtune.findings import Refused
from support.new_experiments import MODEL, Wish, make, problems, refused
from support.wording import absent

pytestmark = pytest.mark.usefixtures("no_local_file")

REFUSALS: list[tuple[Mapping[str, Wish], list[tuple[str, str | None]]]] = [
    ({"--model": "Llama-3.2-1B-Instrct"}, [("unknown-model", "model")]),
    ({"--model": None}, [("missing-field", "model")]),
    ({"--model": [MODEL, MODEL]}, [("ambiguous", "model")]),
    ({"--model": [MODEL, MODEL.lower()], "--rank": "8", "--lr": "1e-5"}, [("name-collision", "run name")]),
    ({"--rank": "8,8"}, [("ambiguous", "lora_rank")]),
    ({"--rank": "0"}, [("invalid-value", "lora_rank")]),
    ({"--rank": "8,"}, [("invalid-value", "lora_rank")]),
    ({"--lr": "1e-5,0.00001"}, [("ambiguous", "lr")]),
    ({"--lr": "fast"}, [("invalid-value", "lr")]),
    ({"--batch-size": "four"}, [("invalid-value", "batch_size")]),
    ({"--batch-size": None}, [("missing-field", "batch_size")]),
    ({"--epochs": "1,2"}, [("invalid-value", "epochs")]),
    ({"--epochs": ["1", "2"]}, [("ambiguous", "epochs")]),
    ({"--epochs": None}, [("missing-field", "epochs")]),
    ({"--seed": "-1"}, [("invalid-value", "seed")]),
    ({"--data": None}, [("missing-field", "dataset")]),
    ({"--data": "words.csv"}, [("unsupported-format", "dataset")]),
    ({"--data": "my words.json"}, [("invalid-value", "dataset")]),
    ({"--data": "../words.json"}, [("invalid-value", "dataset")]),
    ({"--data": "x.json (small)"}, [("invalid-value", "dataset")]),
    ({"--data": "'x.json'"}, [("invalid-value", "dataset")]),
    ({"--data": "a,b.json", "--model-dir": "x[1]"}, [("invalid-value", "dataset")]),
    ({"--system-prompt": "${x}"}, [("invalid-value", "system_prompt")]),
    ({"--system-prompt": "\x00"}, [("invalid-value", "system_prompt")]),
    ({"--system-prompt": "\ud800"}, [("invalid-value", "system_prompt")]),
    ({"--system-prompt": " \"'“ "}, [("invalid-value", "system_prompt")]),
    ({"--system-prompt": "x", "--model": "Mistral-7B-v0.1"}, [("unsupported-setting", "system_prompt")]),
    ({"--model-dir": None}, [("missing-field", "models_dir")]),
    ({"--conda-env": None}, [("missing-field", "conda_env")]),
    ({"--conda-env": "/env"}, [("invalid-value", "conda_env")]),
    ({"--account": "none"}, [("invalid-value", "account")]),
    ({"--time": "30"}, [("invalid-value", "time")]),
    ({"--gpus": "0"}, [("invalid-value", "gpus")]),
    ({"--module": "a;b"}, [("invalid-value", "modules")]),
    ({"--constraint": "a b"}, [("invalid-value", "constraint")]),
    ({"--project": "my project"}, [("invalid-value", "my_wandb_project")]),
    ({"--output-dir": "~/out"}, [("invalid-value", "output_dir_base")]),
    ({"--name": "my sweep"}, [("invalid-value", "experiment_name")]),
    ({"--seed": ",".join(map(str, range(501)))}, [("unsupported-setting", "runs")]),
]


@pytest.mark.parametrize(("changes", "told"), REFUSALS, ids=lambda x: str(x)[:40])
def test_invalid_options_are_refused_before_anything_is_written(
    tmp_path: Path, changes: Mapping[str, Wish], told: list[tuple[str, str | None]]
) -> None:
    assert refused(tmp_path / "one", changes) == told


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "my sweep"
    directory.mkdir()
    (directory / "experiment_summary.md").write_text("mine")
    wrong = {"--model": "Llama-3.2-1B-Instrct", "--rank": "x", "--epochs": None, "--data": "x.csv", "--gpus": "many"}
    found = problems(directory, wrong)
    assert sorted((p.code, p.field or p.file) for p in found) == [
        ("edited-output", "experiment_summary.md"),
        ("invalid-value", "experiment_name"),
        ("invalid-value", "gpus"),
        ("invalid-value", "lora_rank"),
        ("missing-field", "epochs"),
        ("unknown-model", "model"),
        ("unsupported-format", "dataset"),
    ]
    by_field = {p.field: p for p in found}
    assert absent(by_field["model"].message, "'Llama-3.2-1B-Instrct'", "'Llama-3.2-1B-Instruct'") == []
    assert absent(by_field["experiment_name"].message, "'my sweep'") == []


@pytest.mark.parametrize("name", ["experiment_summary.md", "experiment_summary.yaml", "claude.local.md"])
def test_existing_documents_are_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / name).symlink_to("nowhere")
    found = problems(tmp_path / "one", {})
    assert [(p.code, p.file) for p in found] == [("edited-output", name)]


def test_a_path_that_cannot_contain_an_experiment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file", {}) == [("not-a-directory", "experiment")]
    assert refused(tmp_path / "experiment_summary.md", {}) == [("not-a-directory", "experiment")]
    assert refused(tmp_path / ("x" * 300), {}) == [("not-a-directory", "experiment")]
    assert refused(tmp_path / "a\nb", {}) == [("unsafe-path", "experiment")]
    assert refused(tmp_path / "one", {}, roots=(tmp_path / "cwd",)) == [("outside-roots", "experiment")]
    assert {p.code for p in problems(tmp_path / "it's", {"--name": "its"})} == {"invalid-value"}


def test_a_fault_of_the_template_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new, "number_text", lambda value: "9" if value == 8 else str(value))
    assert refused(tmp_path / "one", {}) == [("render-mismatch", "runs")]
    monkeypatch.setattr(new, "number_text", lambda value: "9" if value == 2 else str(value))
    found = problems(tmp_path / "one", {})
    assert [(p.code, p.field, p.expected, p.actual) for p in found] == [("render-mismatch", "epochs", 2, 9)]
    monkeypatch.setattr(new, "_prose", lambda text: text.upper())
    assert refused(tmp_path / "two", {"--rank": "8", "--lr": "1e-5", "--system-prompt": "x"}) != []


def test_a_full_disk_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    replace, calls = Path.replace, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", second_fails)
    with pytest.raises(Refused, match=r"cannot write into .*/one$") as caught:
        make(tmp_path / "one")
    assert [p.code for p in caught.value.problems] == ["write-failed"]
    assert "No space left" in caught.value.problems[0].message
    assert list((tmp_path / "one").iterdir()) == []


def test_an_interruption_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "one")
    assert list((tmp_path / "one").iterdir()) == []


def test_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        make(tmp_path / "one")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "one").iterdir()} == {0o640}
