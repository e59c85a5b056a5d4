"""The choice of the Python that has torchtune, and the findings if it gives no answer. A stand-in answers here."""

import ast
import importlib.util
import signal
import sys
import venv
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.external_checks import ask_torchtune
from scaffold_torchtune.request import Request
from support.command_line import answer, started
from support.experiments import RUNS, is_alive
from support.sampling import spread
from support.scaffolding import answers, only, validated
from support.stand_in_python import stand_in
from support.waiting import PATIENCE, pass_deadlines_once, wait_until, written
from support.wording import absent

NAMED = "SCAFFOLD_TORCHTUNE_PYTHON"
HERE = "SCAFFOLD_TORCHTUNE_PYTHON"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stand-in"


@pytest.mark.long
@pytest.mark.parametrize(
    ("body", "code", "reasons"),
    spread(
        [
            ("say(missing='ModuleNotFoundError: x')", "torchtune-missing", [": ModuleNotFoundError: x"]),
            ("hello(); sys.exit('of its own making')", "torchtune-unanswered", ["status 1", ": of its own making"]),
            ("hello(); sys.exit('red \\x1b')", "torchtune-unanswered", ["status 1", r": red \x1b"]),
            ("hello(); sys.exit(3)", "torchtune-unanswered", ["status 3"]),
            ("hello(); os.kill(os.getpid(), 11)", "torchtune-unanswered", ["status -11"]),
            ("print('[]\\n{\"done\": 1}')", "torchtune-unanswered", ["status 0", ': {"done": 1}']),
            ("hello(); print(asked['mark'] + 'garbage')", "torchtune-unanswered", ["status 0", ": garbage"]),
            ("hello(); say(node=0, other=1)", "torchtune-unanswered", [': {"node": 0, "other": 1}']),
            ("hello(); say(done=0)", "torchtune-unanswered", ["status 0"]),
            ("hello(); say(node=99); say(done=99)", "torchtune-unanswered", ["status 0"]),
        ],
        every=2,
    ),
)
def test_an_incomplete_answer_fails_the_validation(
    body: str, code: str, reasons: list[str], done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, monkeypatch, body)
    result = validated(done)
    assert not result.passed
    found = only(result)
    assert (found.code, found.severity) == (code, "error")
    assert absent(found.message, *reasons) == []
    assert HERE in found.fix
    assert "--no-with-torchtune" in found.fix


def test_an_explicit_request_overrides_off_with_the_current_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAMED, "off")
    assert ask_torchtune.python_to_ask(Request(Path("x"), with_torchtune=True)) == (sys.executable, True)
    assert ask_torchtune.python_to_ask(Request(Path("x"))) is None


def test_torchtune_gets_no_gpu_one_thread_and_no_network(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "WANDB_MODE", "MINE"]
    monkeypatch.setenv("MINE", "kept")
    stand_in(folder, monkeypatch, f"hello(); sys.exit(str([os.environ.get(name) for name in {names}]))")
    assert only(validated(done)).message.endswith(": ['', '1', '1', 'disabled', 'kept']")


def test_a_hanging_program_is_ended(done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(folder, monkeypatch, "(folder / 'pid').write_text(str(os.getpid()))\nhello()\ntime.sleep(600)")
    pass_deadlines_once(lambda: written(folder / "pid"), monkeypatch)
    found = only(validated(done))
    assert found.code == "torchtune-unanswered"
    assert absent(found.message, "300 s") == []
    assert not is_alive(int((folder / "pid").read_text()))


@pytest.mark.parametrize("named", ["/nowhere/python", "no-such-python"])
def test_a_missing_python_is_named(named: str, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAMED, named)
    found = only(validated(done))
    assert found.code == "torchtune-missing"
    assert absent(found.message, f"'{named}'", "SCAFFOLD_TORCHTUNE_PYTHON") == []


def test_a_python_that_cannot_be_started_is_named(done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(folder, monkeypatch, "").write_text("no program")
    found = only(validated(done))
    assert found.code == "torchtune-missing"
    assert absent(found.message, "Exec format error") == []


@pytest.fixture
def without_torchtune(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide torchtune from the current Python."""
    monkeypatch.delenv(NAMED)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


@pytest.mark.usefixtures("without_torchtune")
def test_without_torchtune_and_without_a_request_there_is_no_finding(done: Path) -> None:
    assert answers(validated(done)) == []


def test_the_setting_off_disables_the_check(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    assert answers(validated(done)) == []
    monkeypatch.delenv(NAMED)
    assert answers(validated(done, with_torchtune=False)) == []


def test_a_broken_torchtune_is_a_warning_or_an_error_if_requested(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program itself runs here, in a Python that has nothing but its standard library."""
    venv.create(tmp_path / "bare")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    monkeypatch.delenv(NAMED)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    for asked_for, severity in ((None, "warning"), (True, "error")):
        result = validated(done, with_torchtune=asked_for)
        found = only(result)
        assert (found.code, found.severity, result.passed) == ("torchtune-missing", severity, asked_for is None)
        assert absent(found.message, f"'{sys.executable}'", "No module named 'torch'") == []


@pytest.mark.long
def test_the_operator_switches_the_check_on_and_off(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(folder, monkeypatch, "hello()\nagree()")
    for command in ("validate", "scaffold"):
        for arguments, calls in ((["--no-with-torchtune"], 0), (["--with-torchtune"], 1), ([], 1)):
            (folder / "calls").write_text("")
            assert main([command, str(done), "--json", *arguments]) == 0
            assert answer(capsys)
            assert len((folder / "calls").read_text().splitlines()) == calls


def test_configs_that_cannot_be_parsed_are_not_checked(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, monkeypatch, "hello()\nagree()")
    for run, text in zip(RUNS, ["- a list\n", "a: [", "[" * 30, ""], strict=True):
        (done / run / "finetune.yaml").write_text(text)
    assert not validated(done).passed
    assert not (folder / "calls").exists()


def test_progress_is_reported_at_the_start_and_at_the_end(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, monkeypatch, "hello()\nagree()")
    reported: list[tuple[str, int, int]] = []
    validated(done, progress=lambda *now: reported.append(now))
    assert [now for now in reported if now[0] == "torchtune"] == [("torchtune", 0, 20), ("torchtune", 20, 20)]


def test_the_program_has_the_syntax_of_every_python_that_torchtune_supports() -> None:
    ast.parse(ask_torchtune.PROGRAM.read_text(), feature_version=(3, 9))


@pytest.mark.long
def test_an_interrupt_ends_the_program(done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(folder, monkeypatch, "hello()\n(folder / 'pid').write_text(str(os.getpid()))\ntime.sleep(600)")
    with started("validate", done, SCAFFOLD_TORCHTUNE_SBATCH="off") as process:
        wait_until(lambda: written(folder / "pid"))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said.count("\n")) == (130, 1), said
    assert not is_alive(int((folder / "pid").read_text()))
