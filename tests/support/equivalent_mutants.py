"""Mutants that are equivalent to the code, each with the reason."""

from typing import Final

# ruff: noqa: E501 - changes are listed as the campaign prints them

EQUIVALENT: Final[dict[tuple[str, str, str], str]] = {
    (
        "preflight/data_files.py",
        "_RowReader._row",
        "self._sizes.clear() -> pass",
    ): "memory alone: a text has the same size in each row",
    (
        "preflight/tokenizers.py",
        "_end",
        "True -> False",
    ): "the answer comes before it, so that the first label is there already",
    (
        "preflight/samples.py",
        "Packing.add",
        "self.held > self.size -> self.held >= self.size",
    ): "a full pack counts the same, let go or not",
    (
        "preflight/samples.py",
        "Tally.__post_init__",
        "self._layout and (not self._packings) -> False",
    ): "a short cut: what follows gives the same, later",
    (
        "preflight/samples.py",
        "Tally._pair",
        "size += len(cell) if cell.isascii() else _WIDEST * len(cell) -> pass",
    ): "a short cut: what follows gives the same, later",
    (
        "preflight/samples.py",
        "Tally._pair",
        "cell.isascii() -> False",
    ): "a short cut: what follows gives the same, later",
    (
        "preflight/samples.py",
        "Tally._pair",
        "self._spare is not None and 0 < size <= self._spare -> False",
    ): "a short cut: what follows gives the same, later",
    (
        "preflight/samples.py",
        "Tally._bounded",
        "frame is None -> True",
    ): "a short cut: what follows gives the same, later",
    (
        "preflight/samples.py",
        "Tally._bounded",
        "self._is_text and (not messages[0].texts[0]) -> not messages[0].texts[0]",
    ): "the same bounds, piece by piece",
    ("preflight/samples.py", "Tally._frame", "False -> True"): "of a text nothing is masked, and nobody asks",
    ("preflight/samples.py", "Tally._pieces", "False -> True"): "of a text nothing is masked, and nobody asks",
    ("preflight/tokenizers.py", "TokenCounter.count", "False -> True"): "a type, which nothing looks at",
    (
        "preflight/tokenizers.py",
        "_ByteLevel.count",
        "False -> True",
    ): "nothing is put before a text, so nothing is trimmed",
    (
        "preflight/tokenizers.py",
        "_Qwen.count",
        "False -> True",
    ): "nothing is put before a text, so nothing is trimmed",
    ("external_checks/sbatch.py", "answer", "status < 0 -> status <= 0"): "0 is taken before",
    (
        "external_checks/sbatch.py",
        "refusal",
        "False -> True",
    ): "whether an option of the line that submits is late is not asked",
    (
        "preflight/training.py",
        "_least_seconds",
        "part is None or rows is None or (not part.rows) or (gpu is None) or (not gpu.teraflops) -> part is None or not part.rows or gpu is None or (not gpu.teraflops)",
    ): "a part that was seen has its rows counted",
    (
        "preflight/training.py",
        "_memory",
        "need.held > gpu.memory * _GIB -> need.held >= gpu.memory * _GIB",
    ): "a bound, not a value",
    (
        "preflight/training.py",
        "_memory",
        "need.held > _COMMON * _GIB -> need.held >= _COMMON * _GIB",
    ): "a bound, not a value",
    (
        "preflight/training.py",
        "_node",
        "entry and (not (run.value('mem') and run.value('cpus_per_task'))) -> not (run.value('mem') and run.value('cpus_per_task'))",
    ): "models of which torchtune's facts are known are in the registry",
    (
        "preflight/training.py",
        "_offloaded",
        "entry is not None and entry.full_offload and full(run) and (gpus > 1) -> entry.full_offload and full(run) and (gpus > 1)",
    ): "a model that has facts is in the registry too",
    (
        "preflight/training.py",
        "steps_of",
        "isinstance(limit, int) -> True",
    ): "nothing but a number or nothing is planned",
    ("validate/commands.py", "_fits", "facts -> False"): "torchtune's own recipes say their form in their names too",
    (
        "validate/finetune.py",
        "_expect",
        "expected.absent_is is not None and (expected.optional or not report.bundled) -> expected.optional or not report.bundled",
    ): "without absent_is, what may be absent is nothing, and nothing is there",
    ("validate/finetune.py", "_keys", "recipe or '' -> recipe"): "no recipe is called None either",
    ("validate/report.py", "ReportParts", "False -> True"): "a type, which nothing looks at",
    ("validate/report.py", "as_scalar", "abs(value) < _LARGEST -> abs(value) <= _LARGEST"): "a bound, not a value",
    (
        "validate/report.py",
        "interpolates",
        "'${' in value -> '${' not in value",
    ): "a short cut: what follows gives the same, later",
    (
        "validate/report.py",
        "interpolates",
        "isinstance(value, str) and '${' in value -> isinstance(value, str)",
    ): "a short cut: what follows gives the same, later",
    (
        "validate/report.py",
        "_Values._target",
        "(name, steps) not in self._known -> True",
    ): "a short cut: what follows gives the same, later",
    (
        "validate/report.py",
        "_Values._value",
        "not _is_plain(text) -> True",
    ): "a short cut: what follows gives the same, later",
    (
        "validate/report.py",
        "_unresolvable",
        "not _is_plain(text) -> True",
    ): "a short cut: what follows gives the same, later",
    (
        "validate/report.py",
        "resolve",
        "_growth(screened) > _LONGEST -> _growth(screened) >= _LONGEST",
    ): "a bound, not a value",
    (
        "validate/run_files.py",
        "_Commands._end_of_line",
        "end < 0 -> end <= 0",
    ): "a comment does not begin with the end of its line",
    (
        "validate/run_files.py",
        "_Commands._step",
        "character == '<' and (document := _HEREDOC.match(self.text, self.position - 1)) -> (document := _HEREDOC.match(self.text, self.position - 1))",
    ): "the expression itself begins with <",
    ("validate/run_files.py", "_option_words", "word or '' -> word"): "a word that has begun is no longer None",
    ("validate/run_files.py", "_split_option", "False -> True"): "without a name, nobody asks for the equals sign",
    (
        "validate/run_files.py",
        "_split_option",
        "name in _LONG or len(matches) != 1 -> len(matches) != 1",
    ): "one match is the name itself",
}
"""The reason, by file, function or class, and change."""
