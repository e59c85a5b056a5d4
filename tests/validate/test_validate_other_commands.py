"""The validate stage with scripts that run additional commands, or that may not reach the training."""

import pytest

from scaffold_torchtune.validate import validate_run
from support.good_files import GOOD_SLURM, SLURM, files_of, planned, replaced
from support.script_findings import found

RUN = "tune run lora_finetune_single_device \\\n    --config finetune.yaml\n"


def reported(slurm: str, *, bundled: bool = True) -> list[tuple[str, str, str]]:
    """Return the unplanned commands: severity, field, and the text of the line."""
    findings = validate_run(planned(), files_of(planned(), slurm=slurm), bundled=bundled)
    assert {f.code for f in findings} <= {"unplanned-value"}
    assert all(f.actual and f.fix and f.file == f"{planned().directory}/{SLURM}" for f in findings)
    return [(str(f.severity), str(f.field), slurm.splitlines()[(f.line or 0) - 1]) for f in findings]


ELSEWHERE = {
    "sed -i s/8/9/ finetune.yaml": "finetune.yaml",
    "cat > finetune.yaml <<EOF\nlora_rank: 1\nEOF": "finetune.yaml",
    "export CUDA_VISIBLE_DEVICES=": "CUDA_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES=7": "CUDA_VISIBLE_DEVICES",
    "conda deactivate": "conda_env",
}
"""Commands that other scripts must not run before the training either."""


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("srun hostname", "srun"),
        ("sed -i s/8/9/ finetune.yaml", "sed"),
        ("cat > finetune.yaml <<EOF\nlora_rank: 1\nEOF", "cat"),
        ("export CUDA_VISIBLE_DEVICES=", "export"),
        ("export HF_HOME=/x WANDB_MODE", "export"),
        ("CUDA_VISIBLE_DEVICES=7", "CUDA_VISIBLE_DEVICES"),
        ("resume=maybe", "resume"),
        ("pip install torchtune==0.5", "pip"),
        ("set +e", "set"),
        ("conda deactivate", "conda"),
        ("module list", "module"),
        ("tune download x", "tune"),
        ("if true; then echo a; fi", "if"),
    ],
)
def test_an_unplanned_command_is_reported_at_its_line(line: str, field: str) -> None:
    expected = [("error", "true" if field == "if" else field, line.splitlines()[0])]
    for slurm in (replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir"), f"{GOOD_SLURM}{line}\n"):
        assert reported(slurm) == expected
        others = [] if slurm.startswith(GOOD_SLURM) or line not in ELSEWHERE else [ELSEWHERE[line]]
        assert [field for _, field, _ in reported(slurm, bundled=False)] == others


@pytest.mark.parametrize(
    "lines",
    [
        "if [ ! -f finetune.yaml ]; then\n    echo none >&2\n    exit 1\nfi",
        'stop() {\n    echo "$1" 2>&1\n    exit 1\n}',
        "module purge || stop no",
        "resume=true\n[ -e state ] || resume=false",
        "echo a &>log || exit",
        "[ -e a ] && exit",
        "exit_code=1",
    ],
)
def test_commands_that_a_job_needs_are_accepted(lines: str) -> None:
    slurm = replaced(GOOD_SLURM, "mkdir", f"{lines}\nmkdir")
    if lines == "exit_code=1":
        assert reported(slurm, bundled=False) == []
    else:
        assert reported(slurm) == []


@pytest.mark.parametrize("bundled", [True, False])
@pytest.mark.parametrize(
    "line", ["exit 0", "then exit", "[ -e a ]; exit", "echo a & exit", "if true; then a; fi; exit", "(a); exit"]
)
def test_a_job_that_ends_before_the_training_is_reported(line: str, *, bundled: bool) -> None:
    slurm = replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir")
    assert ("error", "exit", line) in reported(slurm, bundled=bundled)


@pytest.mark.parametrize("bundled", [True, False])
@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{ echo skip; exit 0; }", "exit"),
        ("{ echo a; exit 1; } < b", "exit"),
        ("time { exit; }", "exit"),
        ("{ { exit; }; }", "exit"),
        ("{ a; }; exit", "exit"),
        ("if true; then exit 0; fi", "exit"),
        ("if ! false; then exit 0; fi", "exit"),
        ("if :; then { exit; }; fi", "exit"),
        ("[ -f finetune.yaml ] && exit 0", "exit"),
        ("[ ! -f finetune.yaml ] || exit 0", "exit"),
        ("[[ -e finetune.yaml ]] && { a; exit; }", "exit"),
        ("if test -s finetune.yaml; then exit; fi", "exit"),
        ("[ -r finetune.yaml ] && exit", "exit"),
        ("false || exit", "exit"),
        ("exec bash train.sh", "exec"),
        ("exec /bin/true >log", "exec"),
        ("exec -a name ./train", "exec"),
        ("{ a; exec b; }", "exec"),
    ],
)
def test_every_form_of_an_end_before_the_training_is_reported(line: str, field: str, *, bundled: bool) -> None:
    slurm = replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir")
    assert ("error", field, line) in reported(slurm, bundled=bundled)


@pytest.mark.parametrize(
    "line",
    [
        "exec > log 2>&1",
        "exec 3<&0",
        "exec {log}>>log",
        "exec &> >(tee log)",
        "[ -n $A ] || exec bash a.sh",
        "(exec a)",
        "exec a &",
        "exec a | b",
        "echo exec a",
    ],
)
def test_exec_that_does_not_end_the_job_is_accepted(line: str) -> None:
    assert reported(replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir"), bundled=False) == []


@pytest.mark.parametrize(
    "line",
    [
        "a || (echo no; exit 1)",
        "(cd x && make) || exit 1",
        "if a; then if b; then exit; fi; fi",
        "if a; then :; else if b; then c; fi; exit; fi",
        "if false; then exit; fi",
        "case $a in\nb) exit 1;;\nesac",
        "a && { b; exit; }",
        "function stop { b; exit; }",
        "function stop { if a; then b; fi; exit; }",
        "stop() { exit; }",
        "if { a; }; then exit; fi",
        "if ! { a; }; then exit; fi",
        "exit 0 &",
        "exit 0 | a",
        "[ -f finetune.yaml ] || exit 1",
        "[[ -s finetune.yaml ]] || { a; exit 1; }",
        "test ! -r finetune.yaml && exit 1",
        "if [ ! -e finetune.yaml ]; then exit 1; fi",
        "[ -f other.yaml ] && exit",
        "[ -f finetune.yaml ] && a && exit",
        "if a; then exit; fi",
        "if a; then b; elif true; then exit; fi",
        "if true; then if a; then exit; fi; fi",
        "if a; then if true; then exit; fi; fi",
        "if a; then { exit; }; fi",
        "if true; then a; else exit; fi",
        "while true; do exit; done",
        "true || exit",
        "f() {\nif true; then exit; fi\n}",
    ],
)
def test_an_exit_under_a_condition_is_not_reported(line: str) -> None:
    assert reported(replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir"), bundled=False) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if false; then\n", "fi\n"),
        ("if a; then\nb\nfi\nif false\nthen\nif a; then\n", "fi\nfi\n"),
        ("while false; do\n", "done\n"),
        ("true || ", ""),
        (": || ", ""),
        ("false && ", ""),
        ("if ! true; then\n", "fi\n"),
        ("if a; then b; elif false; then\n", "fi\n"),
        ("if a || b; then c; elif a && false; then\n", "fi\n"),
        ("while ! true; do\n", "done\n"),
        ("until true; do\n", "done\n"),
        ("! false || ", ""),
        ("! true && ", ""),
        ("true || a || ", ""),
        ("a && false && ", ""),
        ("a || true || ", ""),
        ("true && true || ", ""),
        ("if false; then {\n", "}; fi\n"),
        ("if false; then if a; then\n", "fi; fi\n"),
        ("if false; then if a; then b; else\n", "fi; fi\n"),
        ("if [ ! -f finetune.yaml ]; then\n", "fi\n"),
        ("[ -e finetune.yaml ] || ", ""),
    ],
)
def test_training_that_never_runs_is_an_error(before: str, after: str) -> None:
    slurm = replaced(GOOD_SLURM, RUN, f"{before}{RUN}{after}")
    assert [each[:2] for each in reported(slurm, bundled=False)] == [("error", "tune run")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if false; then\na\nfi\n", ""),
        ("if false; then\na\nelse\n", "fi\n"),
        ("if false; then\na\nelif b; then\n", "fi\n"),
        ("if false || true; then\n", "fi\n"),
        ("true && ", ""),
        ("false || ", ""),
        ("if a; then\n", "fi\n"),
        ("if ! false; then\n", "fi\n"),
        ("if ! true; then a; elif b; then\n", "fi\n"),
        ("if false; then a; elif ! false; then\n", "fi\n"),
        ("while ! false; do\n", "done\n"),
        ("until ! true; do\n", "done\n"),
        ("! true || ", ""),
        ("! ! true && ", ""),
        ("a && true || ", ""),
        ("a || false && ", ""),
        ("true || a && ", ""),
        ("a | true || ", ""),
        ("true | a || ", ""),
        ("a && (true) || ", ""),
        ("! { false || ", "}\n"),
        ("if false; then a; elif ", "then b; fi\n"),
        ("if ! (false); then\n", "fi\n"),
        ("for a in true; do\n", "done\n"),
        ("if a; then false; else\n", "fi\n"),
        ("true\nwhile a; do\n", "done\n"),
        ("if [ -f finetune.yaml ]; then\n", "fi\n"),
        ("if [ ! -f other.yaml ]; then\n", "fi\n"),
    ],
)
def test_training_that_may_run_is_accepted(before: str, after: str) -> None:
    assert reported(replaced(GOOD_SLURM, RUN, f"{before}{RUN}{after}"), bundled=False) == []


REWRITES = [
    "sed -i s/8/9/ finetune.yaml",
    "sed -e s/8/9/ --in-place=.old ./finetune.yaml",
    "perl -pi -e s/8/9/ $PWD/finetune.yaml",
    "yq -i .epochs=1 ${SLURM_SUBMIT_DIR}/finetune.yaml",
    "cp ../common.yaml finetune.yaml",
    "cp -f ../finetune.yaml .",
    'cp /x/finetune.yaml "$SLURM_SUBMIT_DIR"/',
    "ln -sf ../rank16/finetune.yaml finetune.yaml",
    "mv other.yaml finetune.yaml",
    "mv finetune.yaml old.yaml",
    "envsubst < ../t.yaml > finetune.yaml",
    "echo epochs: 1 >>finetune.yaml",
    "> finetune.yaml",
    "a 2>&1 >| finetune.yaml",
    "cat > finetune.yaml <<EOF\na: 1\nEOF",
    "cat <<EOF > finetune.yaml\na: 1\nEOF",
    "cat t.yaml | tee -a finetune.yaml",
    "sed s/8/9/ finetune.yaml > t && mv t finetune.yaml",
    "tune cp llama3_2/1B_lora_single_device ./finetune.yaml",
    "python make.py --output finetune.yaml",
    "curl -o finetune.yaml https://a",
    "dd if=a of=finetune.yaml",
    f"cp a /x/{planned().directory}/finetune.yaml",
    "(sed -i s/8/9/ finetune.yaml)",
    "echo a>finetune.yaml",
    "echo a 1>finetune.yaml",
    "a &> finetune.yaml",
    "a >|finetune.yaml",
    "sort -o finetune.yaml a",
    "wget -O finetune.yaml a",
    "/usr/bin/python3 make.py -o finetune.yaml",
    "./make --out=finetune.yaml",
    "gawk -i inplace 1 finetune.yaml",
    "awk -i inplace 1 finetune.yaml",
    "sed -nEi.old p finetune.yaml",
    "yq -Pi .a finetune.yaml",
    "rm finetune.yaml",
]


@pytest.mark.parametrize("line", REWRITES)
def test_a_command_that_changes_the_configuration_before_the_training_is_an_error(line: str) -> None:
    slurm = replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir")
    assert [each[:2] for each in reported(slurm, bundled=False)] == [("error", "finetune.yaml")]
    assert reported(f"{GOOD_SLURM}{line}\n", bundled=False) == []


@pytest.mark.parametrize(
    "line", ["[ -f finetune.yaml ] || cp ../a finetune.yaml", "if a; then sed -i b finetune.yaml; fi",
             "[[ -n $A ]] && cp ../a finetune.yaml", "test -f a && cp a finetune.yaml"],
)  # fmt: skip
def test_a_change_of_the_configuration_under_a_condition_is_a_warning(line: str) -> None:
    slurm = replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir")
    assert reported(slurm, bundled=False) == [("warning", "finetune.yaml", line)]


@pytest.mark.parametrize(
    "line",
    [
        "cat finetune.yaml",
        "cp finetune.yaml finetune.yaml.bak",
        "cp finetune.yaml /x/logs/",
        "cp $SLURM_SUBMIT_DIR/finetune.yaml .",
        "cp ./finetune.yaml finetune.yaml",
        "cp -r $SLURM_SUBMIT_DIR/* $TMPDIR",
        "cp data.json .",
        "sed s/8/9/ finetune.yaml > other.yaml",
        "sed -n 1p finetune.yaml",
        "sed -i s/8/9/ other.yaml",
        "grep -o finetune.yaml a",
        "/bin/grep -o finetune.yaml a",
        "grep -i lr finetune.yaml",
        "echo 'Using config =>' finetune.yaml",
        "echo \\> finetune.yaml",
        "echo '>finetune.yaml'",
        "[ -O finetune.yaml ]",
        "test -e a -o finetune.yaml",
        "ls -o finetune.yaml",
        "of=finetune.yaml",
        "awk -vi=1 '/lr/' finetune.yaml",
        "awk -i library 1 finetune.yaml",
        "perl -Mstrict -ne print finetune.yaml",
        "sed -es/i/j/ finetune.yaml",
        "sed -fedit.sed finetune.yaml",
        "cat<finetune.yaml",
        "test -f finetune.yaml && echo a > log",
        "cat <<EOF\n> finetune.yaml\nEOF",
        "echo a 2>&1 | tee log",
        "md5sum < finetune.yaml > sum",
        "cp",
    ],
)
def test_commands_that_only_read_the_configuration_are_accepted(line: str) -> None:
    assert reported(replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir"), bundled=False) == []


def test_a_job_may_exit_after_the_training() -> None:
    assert reported(f"{GOOD_SLURM}exit 0\n") == []


@pytest.mark.parametrize(("bundled", "severity"), [(True, "error"), (False, "warning")])
def test_training_in_the_background_is_reported(severity: str, *, bundled: bool) -> None:
    slurm = replaced(GOOD_SLURM, "--config finetune.yaml\n", "--config finetune.yaml & echo a\n")
    assert reported(slurm, bundled=bundled) == [(severity, "tune run", "tune run lora_finetune_single_device \\")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if [ -e a ]; then\n", "fi\n"),
        ("train() {\n", "}\ntrain\n"),
        ("[ -e a ] && ", ""),
        ("[ -e a ] || ", ""),
        ("echo y | ", ""),
    ],
)
def test_conditional_training_is_reported(before: str, after: str) -> None:
    slurm = replaced(GOOD_SLURM, RUN, f"{before}{RUN}{after}")
    assert ("error", "tune run") in [each[:2] for each in reported(slurm)]
    assert reported(slurm, bundled=False) == []


@pytest.mark.parametrize("loop", ["for a in b", "while a", "until a", "case a in b", "select a in b"])
def test_an_exit_in_a_loop_is_conditional(loop: str) -> None:
    end = "esac" if loop.startswith("case") else "done"
    inside = replaced(GOOD_SLURM, "mkdir", f"{loop}; do\nexit 0\n{end}\nmkdir")
    assert "exit" not in {field for _, field, _ in reported(inside, bundled=False)}
    after = replaced(GOOD_SLURM, "mkdir", f"{loop}; do\necho\n{end}\nexit 0\nmkdir")
    assert reported(after, bundled=False) == [("error", "exit", "exit 0")]


def test_an_exit_in_a_function_is_not_reported() -> None:
    for begin in ("f() {", "function f {", "f() { echo;"):
        inside = replaced(GOOD_SLURM, "mkdir", f"{begin}\nexit 0\n}}\nmkdir")
        assert reported(inside, bundled=False) == []
        after = replaced(GOOD_SLURM, "mkdir", f"{begin}\necho\n}}\nexit 0\nmkdir")
        assert reported(after, bundled=False) == [("error", "exit", "exit 0")]


def test_commands_with_checks_of_their_own_are_reported_once() -> None:
    for before in ("export WANDB_MODE=online\n", "WANDB_MODE=online "):
        assert found({}, replaced(GOOD_SLURM, "tune run", f"{before}tune run"), bundled=True) == [
            ("unplanned-value", "error", "offline")
        ]
    twice = found({}, f"{GOOD_SLURM}{RUN}", bundled=True)
    assert twice == [("unplanned-value", "error", "tune run")]
    assert found({}, replaced(GOOD_SLURM, "tune run", "echo"), bundled=True) == [("missing-value", "error", "tune run")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("train() {\n", "}\n"),
        ("train() {\n", "} > log\n"),
        ("train ()\n{\n", "}\n"),
        ("train() { ", "}\n"),
        ("function train\n{\n", "}\n"),
        ("function train() {\n", "}\n"),
        ("train() {\n", "}\necho train\n"),
        ("train() {\n", "}\nmkdir -p train\n"),
        ("train() {\nif a; then { b; }; fi\n", "}\n"),
        ("train() {\n", "}\nall() { train; }\n"),
        ("train() {\n", "train\n}\n"),
        ("all() { train; }\ntrain() {\n", "}\n"),
        ("stop() { exit; }\ntrain() {\n", "}\nstop\n"),
    ],
)
def test_training_in_a_function_that_is_never_called_is_an_error(before: str, after: str) -> None:
    slurm = replaced(GOOD_SLURM, RUN, f"{before}{RUN}{after}")
    first = "train() { tune run lora_finetune_single_device \\" if before == "train() { " else RUN.splitlines()[0]
    assert reported(slurm, bundled=False) == [("error", "tune run", first)]


@pytest.mark.parametrize(
    "call",
    [
        *("train", "train a", "time train", "A=1 train", "if train; then a; fi", "{ train; }", "(train)"),
        *("train | tee log", "srun bash -c train", "srun -n1 bash -c 'set -e; train'", "trap train EXIT"),
        *("eval train", "A=$(train)", "A=`train`"),
        *('"$1"', "$@", "all() { train; }\nall", "function all { train; }\nall", "a() { b; }\nb() { train; }\na"),
        *("xargs -I{} train", "timeout 5 train", "[ -e a ] && train || exit"),
    ],
)  # fmt: skip
def test_training_in_a_function_that_is_called_is_accepted(call: str) -> None:
    for begin in ("train() {", "function train() {"):
        slurm = replaced(GOOD_SLURM, RUN, f"{begin}\n{RUN}}}\n{call}\n")
        assert reported(slurm, bundled=False) == []


def test_commands_of_a_function_that_is_never_called_are_ignored() -> None:
    change = "sed -i a finetune.yaml"
    for lines, changes in (
        (f"f() {{\n{change}\n}}", False),
        (f"f() {{\n{change}\n}}\nf", True),
        (f"f() {{ {change}; }}", False),
    ):
        slurm = replaced(GOOD_SLURM, "mkdir", f"{lines}\nmkdir")
        assert [field for _, field, _ in reported(slurm, bundled=False)] == ["finetune.yaml"] * changes
    slurm = replaced(GOOD_SLURM, "mkdir", f"f() {{ a; }}\n{change}\nmkdir")
    assert reported(slurm, bundled=False) == [("error", "finetune.yaml", change)]


@pytest.mark.parametrize(
    ("lines", "is_active"),
    [
        ("on() {\nconda activate tuning\n}", False),
        ("on() {\nconda activate tuning\n}\non", True),
        ("(conda activate tuning)", False),
        ("{ conda activate tuning; }", True),
    ],
)
def test_an_environment_that_is_not_active_in_the_shell_of_the_training_is_missing(
    lines: str, *, is_active: bool
) -> None:
    slurm = replaced(GOOD_SLURM, "conda activate tuning", lines)
    expected = [] if is_active else [("missing-value", "error", "conda_env")]
    assert found({}, slurm, bundled=False) == expected
    within = replaced(
        GOOD_SLURM, "conda activate tuning\n", "(conda activate tuning\n", "finetune.yaml", "finetune.yaml)"
    )
    assert found({}, within, bundled=False) == []


def test_an_own_command_tune_is_a_warning() -> None:
    for line in (
        'tune() { command tune "$@" epochs=9; }',
        "function tune { a; }",
        "function tune {\na\n}",
        "alias tune='tune b'",
    ):
        slurm = replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir")
        (one,) = reported(slurm, bundled=False)
        assert (one[:2], one[2]) == (("warning", "tune run"), line.splitlines()[0])
    for line in ("untune() { a; }", "alias t=tune", "echo alias tune=a", "tune ls"):
        assert reported(replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir"), bundled=False) == []


@pytest.mark.parametrize(
    "line",
    [
        "sed -i s/2/9/ *.yaml",
        "sed -i s/2/9/ finetune*",
        "sed -i s/2/9/ {setup_,}finetune.yaml",
        "sed -i s/2/9/ $PWD/*.yaml",
        f"sed -i s/2/9/ /x/{planned().directory}/fine????.yaml",
        'sed -i s/2/9/ "$F"',
        "sed -i s/2/9/ $(ls a)",
        "sed -i s/2/9/ ${F%.old}",
        "sed -i s/2/9/ `ls a`",
        "sed -i s/2/9/ $D/finetune.yaml",
        "perl -pi -e s/2/9/ [a-z]*.yaml",
        "rm -f *.yaml",
        "tee *.yaml",
        "cp ../seed1/*.yaml .",
        "cp -r ../seed1/* .",
        "cp -r ../seed1/. $PWD/",
        "ln -s ../seed1/finetune.* $SLURM_SUBMIT_DIR",
        "rsync -a ../seed1/ .",
        "rsync -a host:a/* ./",
        "rsync -a ../seed1/. .",
        "git checkout finetune.yaml",
        "git stash",
        "git restore .",
        "git reset --hard",
        "git switch a",
        "git pull",
        "git apply a",
        "find . -name '*.yaml' -exec sed -i s/2/9/ {} +",
        "find . -iname finetune.yaml -delete",
        "find -name '*.yaml' -exec mv {} a ;",
        "find $PWD/ -type f -exec rm {} +",
        "ls *.yaml | xargs sed -i s/2/9/",
        "ls | xargs sed -i s/2/9/",
        "ls *.yaml | xargs rm",
        "echo finetune.yaml | xargs -n1 mv -t a",
        "ls *.yaml | parallel rm",
        "python set_lr.py --config finetune.yaml --lr 1e-3",
        "python set_lr.py --config=finetune.yaml",
        "python fix_config.py $PWD/finetune.yaml",
        "./fix finetune.yaml",
        "F=finetune.yaml; ./fix $F",
        "python -c \"open('finetune.yaml', 'w').write(a)\"",
        "bash -c 'sed -i s/2/9/ finetune.yaml'",
        "bash -c 'echo a > finetune.yaml'",
        "sh -c 'cp a finetune.yaml'",
        "ssh host 'mv a/finetune.yaml b'",
        "python - <<'PY'\nimport yaml\nyaml.safe_dump(c, open('finetune.yaml', 'w'))\nPY",
        "bash <<EOF\nsed -i s/2/9/ finetune.yaml\nEOF",
        "python <<A - <<B\nopen('finetune.yaml', 'a')\nA\nB",
        "python -m cruijff_kit.tools.torchtune.setup_finetune --epochs 9",
        "python setup_finetune.py",
        "../kit/setup_finetune.py",
        "setup_finetune",
        "if a; then ./fix finetune.yaml; fi",
    ],
)
def test_a_command_that_may_change_the_configuration_is_a_warning(line: str) -> None:
    for ending in ("", "a | "):
        if ending and "|" in line:
            continue
        slurm = replaced(GOOD_SLURM, "mkdir", f"{ending}{line}\nmkdir")
        expected = ("warning", "finetune.yaml", f"{ending}{line}".splitlines()[0])
        assert reported(slurm, bundled=False) == [expected]
    assert reported(f"{GOOD_SLURM}{line}\n", bundled=False) == []


@pytest.mark.parametrize(
    "line",
    [
        "sed -i s/2/9/ $F",
        'echo "epochs: 9" >> "$F"',
        'echo "epochs: 9" >>"$F"',
        "cp ../a $F",
        "rm ${F}",
        "tee $F",
    ],
)
def test_a_change_of_the_configuration_through_a_known_variable_is_an_error(line: str) -> None:
    slurm = replaced(GOOD_SLURM, "mkdir", f"F=finetune.yaml\n{line}\nmkdir")
    assert reported(slurm, bundled=False) == [("error", "finetune.yaml", line)]
    assert reported(replaced(slurm, "F=finetune.yaml", "F=other.yaml"), bundled=False) == []


READS = (
    "[ [[ aws awk basename cat chmod chown cksum cmp cut date declare diff dirname du echo egrep export fgrep file for"
    " gawk grep gsutil head jq less local logger ls mail md5sum more nl od perl printf rclone read readlink readonly"
    " realpath rg ruby scp sed set sha1sum sha256sum sha512sum sort stat sync tail tar test touch trap tune typeset"
    " uniq wandb wc yq zip"
)


@pytest.mark.parametrize("program", READS.split())
def test_a_program_that_reads_its_files_is_accepted(program: str) -> None:
    slurm = replaced(GOOD_SLURM, "mkdir", f"{program} a finetune.yaml\nmkdir")
    assert reported(slurm, bundled=False) == []


@pytest.mark.parametrize(
    "line",
    [
        "sed -i s/2/9/ *.json",
        "sed -i s/2/9/ ../seed1/*.yaml",
        "sed -i s/2/9/ $TMPDIR/train.json",
        'sed -i "$SCRIPT" other.yaml',
        'sed -i "s|A|$B|" run_$N.sh',
        f"sed -i s/2/9/ {'*' * 200}",
        "sed s/2/9/ *.yaml",
        "rm -f *.tmp logs/*",
        "rm -rf $TMPDIR/*",
        "rm -f $LOCK",
        "a | tee $LOG",
        "echo a >> $LOG",
        "cp -r ../seed1/data .",
        "cp ../seed1/*.json .",
        "cp -r $SLURM_SUBMIT_DIR/* .",
        "cp -r ../seed1/ .",
        "cp *.yaml .",
        "cp -r ../seed1/. /a",
        "cp $A/$B .",
        "rsync -a data/ $TMPDIR/data/",
        "git rev-parse HEAD",
        "git status",
        "git",
        "git -C /x/repo checkout main",
        "find . -name '*.tmp' -delete",
        "find $TMPDIR -mtime +1 -delete",
        "find . -name '*.yaml'",
        "find",
        "find . -name '*.yaml' -exec sed -n p {} +",
        "ls *.tmp | xargs rm",
        "ls *.yaml | xargs cat",
        "ls *.yaml; xargs rm",
        "ls *.yaml | xargs sed -n p",
        "python prepare.py --output data.json",
        "python set_lr.py --config other/finetune.yaml",
        "python -c \"print(open('finetune.yaml').read())\"",
        "python -c \"open('other.yaml', 'w')\"",
        "bash -c 'cat finetune.yaml'",
        "python - <<'PY'\nprint(open('finetune.yaml').read())\nPY",
        "python - <<'PY'\nopen('other.yaml', 'w')\nPY",
        "cat <<'PY' > a.py\nopen('finetune.yaml', 'w')\nPY",
        "python a.py --setup my_setup_finetune.yaml",
        "CFG=finetune.yaml",
        "A=(\n  --config finetune.yaml\n  'b'\n)",
        "A=(x --config finetune.yaml)",
        "nvidia-smi",
        "export A=finetune.yaml",
        "for f in finetune.yaml; do cat $f; done",
        "if [ ! -f finetune.yaml ]; then exit 1; fi",
        "pip install -e .",
    ],
)
def test_commands_that_do_not_change_the_configuration_are_accepted(line: str) -> None:
    assert reported(replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir"), bundled=False) == []


def test_a_subshell_is_not_an_array() -> None:
    for line in ("(./fix finetune.yaml)", "A=(a)\n(./fix finetune.yaml)", "f=a\n(cd b; ./fix finetune.yaml)"):
        slurm = replaced(GOOD_SLURM, "mkdir", f"{line}\nmkdir")
        assert [each[:2] for each in reported(slurm, bundled=False)] == [("warning", "finetune.yaml")]
