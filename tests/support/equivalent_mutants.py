"""What looks like sabotage and is none: mutants that do the same as the code, each with the reason."""

from typing import Final

EQUIVALENT: Final[dict[tuple[str, str], str]] = {
    (
        "validate/finetune.py",
        (
            "expected.absent_is is not None and (expected.optional or not report.bundled) -> expected.optional or not"
            " report.bundled"
        ),
    ): "without absent_is, what may be absent is nothing, and nothing is there",
    (
        "preflight/cost.py",
        (
            "entry and (not (run.value('mem') and run.value('cpus_per_task'))) -> not (run.value('mem') and"
            " run.value('cpus_per_task'))"
        ),
    ): "models of which torchtune's facts are known are in the registry",
    ("validate/run_files.py", "_growth(screened) > _LARGEST -> _growth(screened) >= _LARGEST"): "a bound, not a value",
    **{
        ("validate/run_files.py", change): "a short cut: what follows gives the same, later"
        for change in (
            "(name, steps) not in self._known -> True",
            "not _is_plain(text) -> True",
        )
    },
    ("validate/report.py", "False -> True"): "a type, which nothing looks at",
    (
        "validate/slurm_script.py",
        "name in _LONG or len(matches) != 1 -> len(matches) != 1",
    ): "one match is the name itself",
    ("validate/slurm_script.py", "False -> True"): "without a name, nobody asks for the equals sign",
    ("validate/slurm_script.py", "word or '' -> word"): "a word that has begun is no longer None",
    ("validate/slurm_script.py", "end < 0 -> end <= 0"): "a comment does not begin with the end of its line",
    (
        "validate/slurm_script.py",
        (
            "character == '<' and (document := _HEREDOC.match(self.text, self.position - 1)) -> (document :="
            " _HEREDOC.match(self.text, self.position - 1))"
        ),
    ): "the expression itself begins with <",
    **{
        ("validate/report.py", change): "a short cut: what follows gives the same, later"
        for change in (
            "isinstance(value, str) and '${' in value -> isinstance(value, str)",
            "'${' in value -> '${' not in value",
        )
    },
    ("validate/report.py", "abs(value) < _LARGEST -> abs(value) <= _LARGEST"): "a bound, not a value",
    (
        "preflight/cost.py",
        (
            "entry is not None and entry.full_offload and full(run) and (gpus > 1) -> entry.full_offload and full(run)"
            " and (gpus > 1)"
        ),
    ): "a model that has facts is in the registry too",
    ("preflight/cost.py", "need.held > gpu.memory * _GIB -> need.held >= gpu.memory * _GIB"): "a bound, not a value",
    (
        "preflight/cost.py",
        (
            "part is None or rows is None or (not part.rows) or (gpu is None) or (not gpu.teraflops) -> part is None or"
            " not part.rows or gpu is None or (not gpu.teraflops)"
        ),
    ): "a part that was seen has its rows counted",
    ("preflight/design.py", "True -> False"): "the values of all parameters are of the same runs, so equally many",
    ("preflight/optimizer_steps.py", "isinstance(limit, int) -> True"): "nothing but a number or nothing is planned",
    ("validate/commands.py", "facts -> False"): "torchtune's own recipes say their form in their names too",
    ("external_checks/sbatch.py", "status < 0 -> status <= 0"): "0 is taken before",
    ("external_checks/sbatch.py", "False -> True"): "whether an option of the line that submits is late is not asked",
    ("validate/finetune.py", "recipe or '' -> recipe"): "no recipe is called None either",
}
"""The reason, by file and change."""
