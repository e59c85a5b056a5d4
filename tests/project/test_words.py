"""Texts of the project avoid banned phrases, and the check finds them in every kind of text."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = runpy.run_path(str(ROOT / "scripts/check_words.py"))


def found(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the places that the check prints for a file or folder; its status agrees with them."""
    status = CHECK["main"]([str(path)])
    *lines, total = capsys.readouterr().out.splitlines()
    assert total.startswith(f"{len(lines)} banned")
    assert status == int(bool(lines) or total.endswith("in 0 files"))
    return [line.removeprefix(f"{path}:").split(":")[0] for line in lines]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("comment.py", "x = 1\n# the user is told it\n"),
        ("string.py", "x = (\n    f'the file {1} lies there'\n)\n"),
        ("docstring.py", '\ndef a() -> None: "Return what came of it."\n'),
        ("clause.py", '\ndef a() -> None: "What a run needs."\n'),
        ("plural.py", "\nx = 'lacks 3 run(s)'\n"),
        ("prose.md", "# Title\nThe scaffold goes on.\n"),
        ("template.j2", "{{ a }}\n# Whoever submits it\n"),
    ],
)
def test_the_check_finds_a_banned_phrase_in_its_line(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert found(file, capsys)[0] == "2"


def test_the_check_accepts_plain_texts_and_the_term_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.py").write_text('"""Read runs."""\n\n\ndef lies(told: int) -> int:\n    return told  # 1\n')
    (tmp_path / "CONTRIBUTING.md").write_text(f"{CHECK['_TERM_BASE']}\n\n| missing | is absent |\n")
    assert found(tmp_path, capsys) == []


def test_strings_of_tests_are_input_and_their_docstrings_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "support.py"
    file.write_text('\n"""Return what came of it."""\nx = "the user is told it"\n')
    assert found(file, capsys) == ["2", "3"]
    monkeypatch.setitem(CHECK["texts"].__globals__, "_TESTS", tmp_path)
    assert found(file, capsys) == ["2"]


def test_the_check_fails_if_it_reads_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(tmp_path, capsys) == []
    assert CHECK["main"]([str(tmp_path)]) == 1


@pytest.mark.long
def test_the_texts_of_the_project_have_no_banned_phrase(capsys: pytest.CaptureFixture[str]) -> None:
    assert CHECK["main"]([]) == 0, capsys.readouterr().out
