"""What the steps from drafts to an `Experiment` share: the drafts, and the findings so far."""

from collections.abc import Callable
from dataclasses import dataclass, field

from scaffold_torchtune.findings import Collector, Finding, Scalar, finding
from scaffold_torchtune.models import Setting, Source, SourceKind, SummaryFormat
from scaffold_torchtune.parse import values
from scaffold_torchtune.parse.advice import Place, advise, holder
from scaffold_torchtune.parse.drafts import Draft, LocalDraft, SourceText, SummaryDraft, TemplateDraft
from scaffold_torchtune.parse.methods import NotHonoured
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import Parameter, by_label, normalize
from scaffold_torchtune.settings.unsupported import NOT_PLANNED, asked_otherwise, is_refused, usual_of
from scaffold_torchtune.system.text import escape, shown

# Where the YAML form says what a Markdown summary says in its sections.
_IN_YAML = {"experiment name": "experiment", "epochs": "controls", "batch_size": "controls", "dataset": "data.training"}
_A_RUN = "- {name: NAME, type: fine-tuned, model: MODEL, parameters: {lora_rank: 8}}"


@dataclass
class Reading(Collector):
    """The two drafts, and the findings so far. `is_experiment_dir` tells whether a path is the summary's directory.

    `template` is what the operator's template gives where the documents say nothing. `unasked` are those findings that
    no single answer settles.
    """

    summary: SummaryDraft
    local: LocalDraft
    form: SummaryFormat
    is_experiment_dir: Callable[[str], bool]
    template: TemplateDraft = field(default_factory=TemplateDraft)
    unasked: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.summary.file)

    def advised(self, name: str, draft: Draft) -> tuple[str, str]:
        """Return where a line with a field that a document lacks goes, and the line."""
        (advised,) = advise([(Place(name, draft), holder(name))], self.form)
        heading, _, line = advised.add.strip("\n").rpartition("\n\n")
        return f"{advised.where}, below a heading '{heading}'" if heading else advised.where, line

    def missing(self, name: str, section: str, line: str = "", *, file: str | None = None) -> None:
        """Note that a required field is absent; a document that cannot be read lacks nothing.

        `line` is what to add for what no single value can say.
        """
        draft = self.summary if file is None else self.local
        if not draft.readable:
            return
        if file is None and self.form == "yaml":
            section, line = _IN_YAML.get(name, "models.base"), line and _A_RUN
            section = "runs" if line else section
        above, _, _ = section.rpartition("." if self.form == "yaml" and file is None else " > ")
        at = draft.sections.get(section) or draft.sections.get(above)
        if line:
            where = f"below line {at} ({section})" if at else f"({section})"
        else:
            where, line = self.advised(name, draft)
            where += "" if "heading" in where else f" ({section})"
        message = f"{name} is missing: {draft.file} does not give it ({section})"
        fix = f"add this line {where}: {line}"
        self.add("missing-field", message, field=name, file=draft.file, line=at, fix=fix)

    def contradiction(self, name: str, here: Setting, first: Setting, fix: str = "keep one of the two lines") -> None:
        """Note that the summary gives a field two values."""
        message = f"{name} is {shown(here.value)} here and {shown(first.value)} at line {first.source.line}"
        choices = (first.value, here.value)
        self.add(
            "ambiguous", message, field=name, expected=first.value, actual=here.value, choices=choices,
            line=here.source.line, fix=fix,
        )  # fmt: skip

    def value(
        self, parameter: Parameter, text: SourceText, kind: SourceKind, file: str | None = None
    ) -> Setting | None:
        """Return the typed value, or None with the problem noted; of the summary, unless another file is named."""
        file = file or self.summary.file
        try:
            value, remark = values.typed(parameter, text)
        except NotTyped as problem:
            named = normalize(parameter.name) in normalize(text.note)
            where = text.note if named else f"{text.note}: {parameter.name}"
            elsewhere = ""
            if kind is SourceKind.CONFIGURATION and parameter.column:
                of_run = "write it in each run's parameters" if self.form == "yaml" else "make it a column"
                elsewhere = f"; where it differs by run, {of_run}"
            found = not_typed(parameter, text, problem, where, file, elsewhere)
            self.findings.append(found.model_copy(update={"file": None, "line": None}) if text.answer else found)
            return None
        if remark:
            self.ignored_remark(parameter.name, text, value, remark, file)
        if text.answer:
            return Setting(value=value, source=Source(kind=SourceKind.ANSWER, note=text.note))
        return Setting(value=value, source=Source(kind=kind, file=file, line=text.line, note=text.note))

    def all_values(self, parameter: Parameter, texts: list[SourceText], kind: SourceKind) -> list[Setting]:
        """Return the typed values of several texts of the summary, with the problems of the others noted."""
        return [setting for text in texts if (setting := self.value(parameter, text, kind)) is not None]

    def not_needed(self, problem: Finding) -> None:
        """Note as a warning what is wrong with a value that nobody needs."""
        message = f"{problem.message}; it is not needed, as every row gives its own"
        fix = "nothing, if the rows are right"
        self.add("unused-field", message, field=problem.field, actual=problem.actual, at=problem, fix=fix)

    def not_planned(self, label: str, text: SourceText) -> None:
        """Note a hyperparameter that no scaffold can honour, unless the line says what every run is."""
        name = normalize(label)
        if not is_refused(name, text.full or text.text):
            return
        message = f"{escape(label)} cannot be planned: {NOT_PLANNED[name]}"
        usual = usual_of(name) or None
        right = f"write {usual}" if usual else "take it out"
        fix = f"{right} if that is right for the experiment, else do not scaffold it with this tool"
        actual = escape(text.full or text.text)
        self.add(
            "unsupported-setting", message, field=name, expected=usual, actual=actual, line=text.line, fix=fix
        )  # fmt: skip

    def not_honoured(self, label: str, text: SourceText, problem: NotHonoured, file: str | None = None) -> None:
        """Note that a line asks for what no scaffold has."""
        written = escape(text.full or text.text)
        message = f"{text.note}: {escape(label)} is {shown(text.full or text.text)}; it {problem.what}"
        meant, expected = by_label(label), problem.expected or None
        name = meant.name if meant is not None and meant.key else normalize(label)
        self.add(
            "unsupported-setting", message, field=name, expected=expected, actual=written, fix=problem.fix,
            file=file or self.summary.file, line=text.line,
        )  # fmt: skip

    def ignored_remark(self, name: str, text: SourceText, value: Scalar, remark: str, file: str | None = None) -> None:
        """Note that something stands beside a value that is not part of it; refuse a training that is none of ours."""
        other = next(asked_otherwise(remark), None)
        if other is not None and file in {None, self.summary.file}:
            what = f"names {shown(other[0])} beside its value, which is not scaffolded"
            fix = "take it out if the runs are trained without it; else do not scaffold this experiment with this tool"
            self.not_honoured(name, text, NotHonoured(what, fix), file)
            return
        taken = kinds.shortest_number(value) if isinstance(value, float) else shown(value)
        message = f"{text.note}: {name} is {taken}; {shown(remark)} beside it is not used"
        file, fix = file or self.summary.file, "nothing, unless the remark was meant to change the runs"
        self.add("ignored-remark", message, field=name, actual=escape(remark), file=file, line=text.line, fix=fix)


def not_typed(
    parameter: Parameter, text: SourceText, problem: NotTyped, where: str, file: str | None, elsewhere: str
) -> Finding:
    """Return the problem of a text that is no such value, or several; `elsewhere` says where several belong."""
    choices = tuple(map(escape, problem.choices))
    if choices:
        written, expected = text.full or text.text, " or ".join(choices)
        code, what, fix = "ambiguous", f"gives {len(choices)} values", f"keep one of them: {expected}{elsewhere}"
    else:
        written, expected = text.text, problem.allowed
        code, what = "invalid-value", f"is {problem.found or f'not {expected}'}"
        fix = problem.fix or f"write {expected}"
    return finding(
        code, f"{where}: {shown(written)} {what}", field=parameter.name, expected=expected, actual=escape(written),
        choices=choices, file=file, line=text.line, fix=fix,
    )  # fmt: skip
