"""Test that replaced files are kept once, whole and within bounds; `history` lists and compares them."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.pipeline import backup, steps
from scaffold_torchtune.pipeline.history import HistoryResult, KeptVersion, history
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree
from support.command_line import answer
from support.experiments import RUNS, Clock, change, everything, log, make_experiment
from support.golden_files import golden
from support.sampling import spread
from support.scaffolding import refusal, scaffold
from support.setup_scripts import MAKE, script
from support.wording import absent

SUMMARY = "experiment_summary.md"
FIRST = RUNS[0]


def epochs(experiment: Path, old: int, new: int) -> None:
    change(experiment / SUMMARY, f"- **Epochs:** {old}", f"- **Epochs:** {new}")


def folder(experiment: Path, run: str = FIRST) -> Path:
    return experiment / layout.HISTORY / run


def versions(experiment: Path, run: str = FIRST) -> list[KeptVersion]:
    """Return the versions of a run, newest first."""
    found = history(Request(experiment), run)
    assert found.warnings == ()
    return list(found.versions)


def kept_files(version: KeptVersion, experiment: Path) -> dict[str, bytes]:
    return {name: (experiment / version.path / name).read_bytes() for name in version.files}


def damaged(found: HistoryResult) -> list[str | None]:
    assert {each.code for each in found.warnings} <= {"history-damaged"}
    return [each.file for each in found.warnings]


# Kept versions.


def test_every_change_of_the_documents_is_kept_with_its_reason_newest_first(done: Path) -> None:
    before = {name: (done / FIRST / name).read_bytes() for name in layout.RUN_FILES}
    assert history(Request(done)).versions == ()
    clock = Clock()
    for old, new in ((2, 3), (3, 4)):
        epochs(done, old, new)
        assert scaffold(done, now=clock).ok
    newest, oldest = versions(done)
    assert [each.changes[0].partition(" (")[0] for each in (newest, oldest)] == ["epochs 3 -> 4", "epochs 2 -> 3"]
    assert newest.time > oldest.time
    assert kept_files(oldest, done) == before
    assert {each.reason for each in (newest, oldest)} == {backup.Reason.PLANNED}
    every = history(Request(done)).versions
    assert len(every) == 2 * len(RUNS)
    assert [each.version for each in every] == sorted((each.version for each in every), reverse=True)
    assert (newest.path in log(done)) == (oldest.path in log(done)), "the log names the place once for all runs"
    assert log(done).count(f"{layout.HISTORY}/RUN/{newest.version}") == 1


@pytest.mark.parametrize("step", [steps.scaffold, steps.setup], ids=["scaffold", "setup"])
@pytest.mark.parametrize("name", ["finetune.yaml", "finetune.slurm"])
def test_an_edited_file_that_overwrite_replaces_is_kept(
    done: Path, step: Callable[[Request], object], name: str
) -> None:
    made = (done / FIRST / name).read_bytes()
    (done / FIRST / name).write_text("mine\n")
    step(Request(done, overwrite=True))
    assert (done / FIRST / name).read_bytes() == made
    (version,) = versions(done)
    assert (version.edited, version.reason) == ((name,), backup.Reason.OVERWRITTEN)
    assert kept_files(version, done)[name] == b"mine\n"
    assert version.path in log(done)
    assert versions(done, RUNS[1]) == []


def test_an_edited_setup_finetune_yaml_is_kept_too(done: Path) -> None:
    (done / FIRST / "setup_finetune.yaml").write_text("mine: 1\n")
    assert scaffold(done, overwrite=True).ok
    (version,) = versions(done)
    assert version.edited == ("setup_finetune.yaml",)
    assert kept_files(version, done)["setup_finetune.yaml"] == b"mine: 1\n"


@pytest.mark.long
def test_the_output_of_a_setup_script_is_kept_if_a_different_script_replaces_it(three: Path, tmp_path: Path) -> None:
    one = script(tmp_path, MAKE)
    assert scaffold(three, setup_script=str(one)).ok
    before = (three / FIRST / "finetune.slurm").read_bytes()
    body = "status = main([])\nwith open('finetune.slurm', 'a') as file: file.write('# other\\n')\nsys.exit(status)\n"
    other = script(tmp_path / "other", body)
    assert scaffold(three, setup_script=str(other)).ok
    (version,) = versions(three)
    assert version.reason == backup.Reason.SET_UP
    assert kept_files(version, three) == {"finetune.slurm": before}


def test_nothing_is_kept_if_nothing_is_replaced(done: Path) -> None:
    before = everything(done)
    assert scaffold(done).unchanged
    assert everything(done) == before
    assert not (done / layout.HISTORY).exists()


def test_a_removed_run_is_kept_until_its_row_returns(done: Path) -> None:
    slurm = done / FIRST / "finetune.slurm"
    before = slurm.read_bytes()
    (row,) = [line for line in (done / SUMMARY).read_text().splitlines(keepends=True) if f"_{FIRST} |" in line]
    change(done / SUMMARY, row, "")
    assert scaffold(done).ok
    assert not slurm.exists()
    (version,) = versions(done)
    assert (version.reason, kept_files(version, done)) == (backup.Reason.DROPPED, {"finetune.slurm": before})
    (next_row,) = [line for line in (done / SUMMARY).read_text().splitlines(keepends=True) if f"_{RUNS[1]} |" in line]
    change(done / SUMMARY, next_row, row + next_row)
    assert scaffold(done).ok
    assert slurm.read_bytes() == before


def test_an_edited_finetune_slurm_of_a_removed_row_is_kept_and_reported(done: Path) -> None:
    slurm = done / FIRST / "finetune.slurm"
    slurm.write_text("mine\n")
    (row,) = [line for line in (done / SUMMARY).read_text().splitlines(keepends=True) if f"_{FIRST} |" in line]
    change(done / SUMMARY, row, "")
    result = scaffold(done)
    assert result.ok
    (told,) = [each for each in result.render.warnings if each.code == "edit-kept"]
    assert told.file == f"{FIRST}/finetune.slurm"
    (version,) = versions(done)
    assert version.version.startswith("backup/")
    assert (version.edited, kept_files(version, done)) == (("finetune.slurm",), {"finetune.slurm": b"mine\n"})


def test_a_file_edited_during_a_scaffold_is_listed_with_the_versions(done: Path) -> None:
    epochs(done, 2, 3)
    path = done / RUNS[3] / "setup_finetune.yaml"

    def edit(step: str, number: int, _total: int) -> None:
        if (step, number) == ("render", 1):
            path.write_text("mine: 1\n")

    assert scaffold(done, progress=edit).ok
    found = versions(done, RUNS[3])
    assert {each.version.startswith("backup/") for each in found} == {True, False}
    (of_backup,) = [each for each in found if each.version.startswith("backup/")]
    assert kept_files(of_backup, done) == {"setup_finetune.yaml": b"mine: 1\n"}
    compared = history(Request(done), RUNS[3], [of_backup.version]).compared
    assert [each.name for each in compared if each.old is not None] == ["setup_finetune.yaml"]


def test_files_kept_by_a_stopped_scaffold_are_not_kept_twice(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs(done, 2, 3)
    write = Tree.write

    def stop(tree: Tree, path: str, data: bytes, *, durable: bool = True) -> None:
        if path == f"{RUNS[1]}/setup_finetune.yaml":
            raise Refused("stopped", [])
        write(tree, path, data, durable=durable)

    monkeypatch.setattr(Tree, "write", stop)
    refusal(steps.scaffold, done)
    monkeypatch.undo()
    assert scaffold(done).ok
    for run in RUNS:
        (version,) = versions(done, run)
        assert b"epochs: 2" in kept_files(version, done)["setup_finetune.yaml"]


def test_a_version_appears_whole_or_not_at_all(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: (done / FIRST / name).read_bytes() for name in layout.RUN_FILES}
    write = Tree.write

    def stop(tree: Tree, path: str, data: bytes, *, durable: bool = True) -> None:
        if path.startswith(layout.STAGING) and path.endswith(backup.REASON):
            raise Refused("stopped", [])
        write(tree, path, data, durable=durable)

    epochs(done, 2, 3)
    monkeypatch.setattr(Tree, "write", stop)
    refusal(steps.scaffold, done)
    assert not (done / layout.HISTORY).exists()
    assert {name: (done / FIRST / name).read_bytes() for name in layout.RUN_FILES} == before
    monkeypatch.undo()
    assert scaffold(done).ok
    assert not list((done / layout.STAGING).iterdir())


# Limits.


@pytest.mark.long
def test_only_a_limited_number_of_versions_is_kept_and_the_log_names_the_removed_ones(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "MOST_VERSIONS", 2)
    clock = Clock()
    for number in range(2, 6):
        epochs(done, number, number + 1)
        assert scaffold(done, now=clock).ok
    assert [each.changes[0].partition(" (")[0] for each in versions(done)] == ["epochs 5 -> 6", "epochs 4 -> 5"]
    assert log(done).count(f"; {len(RUNS)} older versions removed") == 2
    assert not list((done / layout.STAGING).iterdir())


@pytest.mark.long
def test_edited_files_and_files_of_started_runs_are_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "MOST_VERSIONS", 1)
    monkeypatch.setattr(backup, "MOST_BYTES", 1)
    clock = Clock()
    base = {"/scratch/gpfs/LAB/ada/ck-outputs": str(tmp_path / "outputs")}  # visible here: runs can be replaced
    done = make_experiment(tmp_path / "sweep", replace=base)
    assert scaffold(done).ok
    (done / FIRST / "finetune.yaml").write_text("mine\n")
    assert scaffold(done, now=clock, overwrite=True).ok
    (done / RUNS[1] / "slurm-7.out").write_text("training\n")
    epochs(done, 2, 3)
    assert scaffold(done, now=clock, started="replace").ok
    (of_started,) = versions(done, RUNS[1])
    assert of_started.files == (*layout.RUN_FILES, "slurm-7.out")
    (done / of_started.path / "slurm-7.out").unlink()
    (folder(done, RUNS[2]) / versions(done, RUNS[2])[0].version / "notes.txt").write_text("why I liked it")
    for number in range(3, 7):
        epochs(done, number, number + 1)
        assert scaffold(done, now=clock).ok
    assert [each.edited for each in versions(done)] == [(), ("finetune.yaml",)]
    assert [each.started for each in versions(done, RUNS[1])] == [False, True]
    assert len(versions(done, RUNS[2])) == 2
    assert len(versions(done, RUNS[3])) == 1


@pytest.mark.long
def test_permanent_versions_do_not_count_toward_the_limit(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "MOST_VERSIONS", 2)
    clock = Clock()
    for number in range(3):
        (done / FIRST / "finetune.yaml").write_text(f"mine {number}\n")
        assert scaffold(done, now=clock, overwrite=True).ok
    for number in range(2, 5):
        epochs(done, number, number + 1)
        assert scaffold(done, now=clock).ok
    found = versions(done)
    assert [bool(each.edited) for each in found] == [False, False, True, True, True]
    assert [each.changes[0].partition(" (")[0] for each in found[:2]] == ["epochs 4 -> 5", "epochs 3 -> 4"]


@pytest.mark.long
def test_all_versions_together_are_bounded_and_the_newest_of_each_run_stays(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for number in range(2, 5):
        epochs(done, number, number + 1)
        assert scaffold(done, now=clock).ok
    one = sum(each.size for each in versions(done)[:1])
    monkeypatch.setattr(backup, "MOST_BYTES", 7 * one)
    epochs(done, 5, 6)
    assert scaffold(done, now=clock).ok
    found = history(Request(done)).versions
    assert 4 <= len(found) < 8
    assert {each.run for each in found} == {*RUNS}
    changes = [each.changes[0].partition(" (")[0] for each in found]
    assert changes.count("epochs 5 -> 6") == len(RUNS)
    assert {*changes} <= {"epochs 4 -> 5", "epochs 5 -> 6"}


def test_a_version_that_cannot_be_removed_does_not_stop_a_scaffold(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "MOST_VERSIONS", 1)

    def fail(*_: object) -> None:
        raise Refused("no", [])

    monkeypatch.setattr(Tree, "clear", fail)
    for number in range(2, 5):
        epochs(done, number, number + 1)
        assert scaffold(done).ok


# Hostile files.


def put_link(path: Path) -> None:
    path.symlink_to("/etc")


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_file(path: Path) -> None:
    path.write_bytes(b"\xff\xfe not ours")


@pytest.mark.parametrize("put", [put_link, put_file, put_fifo])
def test_a_hostile_history_is_refused_before_anything_is_written(done: Path, put: Callable[[Path], None]) -> None:
    epochs(done, 2, 3)
    for place in (done / layout.HISTORY, folder(done, RUNS[2])):
        place.parent.mkdir(exist_ok=True)
        put(place)
        before = everything(done)
        refused = refusal(steps.scaffold, done)
        assert [(each.code, each.file) for each in refused.problems] == [("unsafe-path", str(place.relative_to(done)))]
        after = everything(done)
        assert {path for path in after if before.get(path) != after[path]} <= {".", "scaffold.log"}
        place.unlink()
    assert scaffold(done).ok


REASONS = {
    "not there": None,
    "empty": b"",
    "not UTF-8": b'{"reason": "\xff"}',
    "cut": b'{"reason": "planned',
    "a list": b"[1, 2]",
    "deep": b"[" * 50_000,
    "huge": b'{"reason": "' + b"x" * 200_000 + b'"}',
    "long number": b'{"time": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", spread(REASONS, every=3))
def test_a_damaged_reason_is_named_and_the_version_is_still_listed(done: Path, name: str) -> None:
    epochs(done, 2, 3)
    assert scaffold(done).ok
    (version,) = versions(done)
    file = done / version.path / backup.REASON
    file.unlink()
    if (data := REASONS[name]) is not None:
        file.write_bytes(data)
    before = everything(done)
    found = history(Request(done), FIRST)
    assert damaged(found) == [f"{version.path}/{backup.REASON}"]
    assert [(each.version, each.files) for each in found.versions] == [(version.version, version.files)]
    assert everything(done) == before
    assert main(["history", str(done), FIRST, "--diff"]) == 0
    epochs(done, 3, 4)
    assert scaffold(done).ok, "it is in nobody's way"


EVIL = "\x1b[31m[bold]red\u202e\nSCAFFOLD"


def test_the_text_of_a_reason_is_escaped_and_cut(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    epochs(done, 2, 3)
    assert scaffold(done).ok
    (version,) = versions(done)
    told = {"time": EVIL, "reason": EVIL, "changes": [EVIL, 7, "x" * 1_000] * 40, "edited": [{}], "started": "yes"}
    (done / version.path / backup.REASON).write_text(json.dumps(told))
    (found,) = versions(done)
    assert found.time.startswith("20")
    assert not any(character in found.reason for character in "\x1b\n\u202e")
    assert max(map(len, found.changes)) < 400
    assert (found.edited, found.started) == ((), False)
    assert main(["history", str(done), FIRST]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[bold]red" in printed
    assert "\nSCAFFOLD" not in printed


@pytest.mark.long
@pytest.mark.parametrize("put", [put_link, put_file, put_fifo])
@pytest.mark.parametrize(
    "place",
    [
        ".scaffold/history/run",
        f".scaffold/history/{FIRST}/2026-11-20_120000",
        ".scaffold/backup/2026-11-20_120000",
        f".scaffold/backup/2026-11-20_120000/{FIRST}",
    ],
)
def test_links_and_other_files_are_named_and_never_followed(
    done: Path, put: Callable[[Path], None], place: str
) -> None:
    epochs(done, 2, 3)
    assert scaffold(done).ok
    (done / place).parent.mkdir(parents=True, exist_ok=True)
    put(done / place)
    before = everything(done)
    found = history(Request(done))
    assert damaged(found) == [place]
    assert len(found.versions) == len(RUNS)
    assert everything(done) == before


@pytest.mark.parametrize("put", [put_link, put_fifo])
def test_a_link_instead_of_a_kept_file_is_named_and_not_read(done: Path, put: Callable[[Path], None]) -> None:
    epochs(done, 2, 3)
    assert scaffold(done).ok
    (version,) = versions(done)
    file = done / version.path / "finetune.yaml"
    file.unlink()
    put(file)
    found = history(Request(done), FIRST, [])
    assert f"{version.path}/finetune.yaml" in damaged(found)
    (compared,) = [each for each in found.compared if each.name == "finetune.yaml"]
    assert compared.old is None


@pytest.mark.parametrize("name", ["lost+found", "2026-11-20", "2026-11-20_120000_", "..2026", "\udcff"])
def test_a_directory_without_a_time_as_its_name_is_reported(done: Path, name: str) -> None:
    (folder(done) / name).mkdir(parents=True)
    found = history(Request(done))
    assert found.versions == ()
    assert len(damaged(found)) == 1
    assert main(["history", str(done)]) == 0


def test_text_that_is_not_utf8_or_too_long_is_named_and_the_rest_compared(done: Path) -> None:
    epochs(done, 2, 3)
    assert scaffold(done).ok
    (version,) = versions(done)
    (done / version.path / "finetune.yaml").write_bytes(b"epochs: \xff\n")
    (done / version.path / "finetune.slurm").write_text("a\nb\n" * 2_000)
    found = history(Request(done), FIRST, [])
    assert damaged(found) == [f"{version.path}/finetune.yaml", f"{FIRST}/finetune.slurm"]
    by_name = {each.name: each for each in found.compared}
    assert (by_name["finetune.slurm"].diff, by_name["finetune.slurm"].differs) == ("", True)
    assert "+epochs: 3" in by_name["setup_finetune.yaml"].diff
    assert main(["history", str(done), FIRST, "--diff"]) == 0


def test_very_many_versions_are_not_all_read(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaffold_torchtune.pipeline.history._MOST_READ", 3)
    for number in range(5):
        version = folder(done) / f"2026-11-20_12000{number}"
        version.mkdir(parents=True)
        (version / backup.REASON).write_text('{"reason": "r"}')
    found = history(Request(done))
    assert [each.version[-1] for each in found.versions] == ["4", "3", "2"]
    assert found.unread == 2


# The command.


def test_a_version_is_identified_by_its_name_or_a_prefix(done: Path) -> None:
    clock = Clock()
    for number in (2, 3):
        epochs(done, number, number + 1)
        assert scaffold(done, now=clock).ok
    newest, oldest = (each.version for each in versions(done))
    for given, expected in {
        (): (newest, "now"),
        (oldest,): (oldest, "now"),
        (oldest, newest): (oldest, newest),
        ("now", oldest): ("now", oldest),
        (oldest[:-1],): (oldest, "now"),
    }.items():
        found = history(Request(done), FIRST, [*given])
        assert (found.old, found.new) == expected
        assert [each.name for each in found.compared] == [*layout.RUN_FILES]
    name = "Llama-3.2-1B-Instruct_rank8_lr1e-5"
    assert history(Request(done), name).run == FIRST


NOT_THERE: list[tuple[str | None, list[str] | None, str]] = [
    ("rank8_lr1e5", None, "run"),
    ("../..", None, "run"),
    ("", None, "run"),
    (FIRST, ["2026-11-2"], "version"),
    (FIRST, ["2025-01-01_000000"], "version"),
    (FIRST, [""], "version"),
    (FIRST, ["now", "now", "now"], "version"),
    (None, [], "run"),
]


def test_an_unknown_run_or_version_is_refused(done: Path) -> None:
    clock = Clock()
    for number in (2, 3):
        epochs(done, number, number + 1)
        assert scaffold(done, now=clock).ok
    before = everything(done)
    for run, given, field in NOT_THERE:
        with pytest.raises(Refused) as caught:
            history(Request(done), run, given)
        (problem,) = caught.value.problems
        assert problem.field == field
        assert problem.fix
        if run == "rank8_lr1e5":
            assert absent(problem.message, FIRST) == []
    assert everything(done) == before


def test_a_run_without_versions_has_nothing_to_compare(done: Path) -> None:
    assert versions(done) == []
    with pytest.raises(Refused) as caught:
        history(Request(done), FIRST, [])
    assert [problem.code for problem in caught.value.problems] == ["unknown-name"]


def test_a_run_without_its_experiment_is_refused_with_the_complete_command(done: Path, tmp_path: Path) -> None:
    refused = refusal(history, done / FIRST)
    assert [problem.code for problem in refused.problems] == ["not-a-directory"]
    assert refused.problems[0].fix.endswith(f": `scaffold-torchtune history {done} {FIRST}`")
    assert refusal(history, tmp_path).problems[0].fix


def test_history_needs_neither_documents_nor_a_plan(done: Path) -> None:
    epochs(done, 2, 3)
    assert scaffold(done).ok
    for name in (SUMMARY, "claude.local.md", ".scaffold/plan.json"):
        (done / name).write_bytes(b"\xff damaged")
    assert len(versions(done)) == 1
    assert main(["history", str(done), FIRST, "--diff"]) == 0
    assert main(["history", str(done / "nothing")]) == 2


def test_the_json_reply_has_versions_and_differences(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    epochs(done, 2, 3)
    assert scaffold(done).ok
    capsys.readouterr()
    assert main(["history", str(done), FIRST, "--json", "--diff"]) == 0
    data = answer(capsys)
    (version,) = data["versions"]
    assert version["path"] == f"{layout.HISTORY}/{FIRST}/{version['version']}"
    assert data["counts"]["versions"] == 1
    by_name = {each["name"]: each for each in data["compared"]}
    assert by_name["finetune.slurm"] == {"name": "finetune.slurm", "differs": False, "diff": ""}
    assert "-epochs: 2\n+epochs: 3" in by_name["finetune.yaml"]["diff"]


def test_two_versions_side_by_side_fit_eighty_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    clock = Clock()
    assert scaffold(experiment, now=clock).ok
    change(experiment / SUMMARY, "Capitalize the given word", "Write the given word in capital letters, please")
    change(experiment / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 3\n- **Weight decay:** 0.1")
    assert scaffold(experiment, now=clock).ok
    (experiment / FIRST / "finetune.slurm").write_text("mine\n")
    assert scaffold(experiment, now=clock, overwrite=True).ok
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    screens = {}
    for name, arguments in {
        "all.txt": [],
        "run.txt": [FIRST],
        "diff.txt": [RUNS[1], "--diff"],
        "edited.txt": [FIRST, "--diff"],
    }.items():
        assert main(["history", str(experiment), *arguments]) == 0
        printed = re.sub(r"\([0-9.]+ kB", "(N kB", capsys.readouterr().out.replace(str(experiment), "EXPERIMENT"))
        screens[name] = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    assert screens == golden("history", screens)
    lines = "\n".join(screens.values()).splitlines()
    assert [line for line in lines if len(line) > 80 and not line.startswith("compare: ")] == []
