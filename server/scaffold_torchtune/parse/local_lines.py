"""Lines of the sections of a claude.local.md, each with its topic; and shell commands that load modules.

The meaning of labels and headings depends on their section.
"""

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Self

from scaffold_torchtune.findings import close_matches
from scaffold_torchtune.parse import compound, notations, values
from scaffold_torchtune.parse.drafts import SourceText
from scaffold_torchtune.parse.headings import EVALUATION
from scaffold_torchtune.settings.parameters import DIRECTORIES, OF_LOCAL, PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.system.markdown import Bullet, Fence, Labelled, Section, Table, Text

Topic = frozenset[str]
"""The subject of a part of the document according to its headings: any number of names in `_TOPICS`."""

TOP: Final[Topic] = frozenset({"top"})
"""The document itself, outside its sections."""

_TOPICS: Final = {
    "nothing": "github git gitlab bitbucket example examples command commands",  # sections without settings
    # sections with settings of jobs that this tool does not submit, or of another cluster
    "apart": f"debug debugging {EVALUATION} preprocessing tests testing"
    " interactive notebook notebooks jupyter retired deprecated decommissioned obsolete old former previous",
    "slurm": "slurm sbatch scheduler job jobs queue partition",
    "modules": "module modules lmod",
    "wandb": "wandb biases tracking",
    "conda": "conda mamba micromamba miniconda anaconda python virtualenv",
    "paths": "path paths directory directories folder folders storage",
    "service": "hugging huggingface hf openai anthropic google aws azure gcp slack jira asana trello notion linear zoom"
    " kaggle docker zenodo overleaf",
    "mail": "email emails mail mails notification notifications",
    "other": "hardware preferences preference style contact contacts people schedule meetings notes about editor",
    "machine": "cluster clusters hpc machine machines node nodes server servers compute",
    "defaults": "default defaults settings setting config configuration",
    "general": "environment environments env local setup general personal user my resources resource allocation",
}
_TOPIC_OF_WORD: Final = {word: topic for topic, words in _TOPICS.items() for word in words.split()}
_OF_TRAINING: Final = frozenset({"training", "train", "tuning", "finetuning", "runs", "all", "both", "not", "default"})
# Not `CPU and memory of jobs`, which are resources.
_OF_CPUS: Final = re.compile(
    r"\bcpus? (?:only|(?:only |batch )?(?:jobs?|partitions?|queues?|nodes?|tasks|work))\b|\bonly cpus?\b"
    r"|\b(?:jobs|tasks|work) on (?:the )?cpus?\b"
)
_OF_MESSAGES: Final = frozenset({"output", "outputs", "log", "logs", "logging", "level", "messages", "info"})
# Words of `apart`, each with the words beside which it describes the jobs of the runs: `Interactive and batch jobs`.
_NOT_APART: Final = {"interactive": frozenset({"batch"}), "debug": _OF_MESSAGES, "debugging": _OF_MESSAGES}
_NO_SITES: Final = frozenset(
    {"required", "optional", "basic", "basics", "advanced", "other", "misc", "miscellaneous", "billing", "limit"}
    | {"limits", "access", "identity", "group", "lab", "project", "budget", "priority", "gpu", "gpus", "extra"}
)
_NOT_SLURMS: Final = frozenset({"service", "wandb", "other", "mail"})
_GENERAL: Final = frozenset({"machine", "defaults", "general"})
_LONGEST_HEADING: Final = 6

_KNOWN: Final = [(name, p.local) for name, p in (OF_LOCAL | DIRECTORIES).items() if p.local is not None]
_ANYWHERE: Final = {label: name for name, of in _KNOWN for label in of.anywhere}
_UNLESS_OF_OTHERS: Final = {label: name for name, of in _KNOWN for label in of.unless_of_others}
_SLURMS: Final = {label: name for name, of in _KNOWN for label in of.of_jobs}
_SOMEWHERE: Final[dict[str, list[tuple[str, Topic]]]] = {}
for _name, _of in _KNOWN:
    for _topics, _labels in _of.within.items():
        for _label in _labels:
            _SOMEWHERE.setdefault(_label, []).append((_name, frozenset(_topics.split())))
# Labels that only describe a job.
_LABELS_OF_JOBS: Final = frozenset(
    {"partition", "constraint", "gpu constraint", "time limit", "walltime", "wall time", "qos"}
)
_OF_MACHINES: Final = frozenset({"gpus", "mem", "cpus_per_task", "gpu_type"})
# Options of sbatch that no setting represents.
_OTHER_OPTIONS: Final = frozenset({"nodelist", "ntasks", "mem per cpu", "mem per gpu"})
_TASKS: Final = frozenset({"ntasks", "tasks", "number of tasks", "tasks per node", "ntasks per node", "tasks per job"})
_FOR_PEOPLE: Final = frozenset(
    {"note", "notes", "purpose", "description", "cluster", "username", "user", "group", "host", "hostname", "login"}
    | {"comments", "gpu types", "available gpu types"}
    | {"login node", "site", "scheduler", "documentation", "docs", "url"}
)
_PREFIXES: Final = frozenset({"default", "my", "the", "slurm", "sbatch"})
_LIKELY_MISSPELT: Final = 0.85
_SHORTEST_MISSPELT: Final = 5


def parameter(name: str) -> Parameter:
    """Return the parameter of a setting of claude.local.md; two of the settings are not parameters of a run."""
    return DIRECTORIES.get(name) or PARAMETERS[name]


def topic_of(title: str, above: Topic) -> Topic:
    """Return the topic of the lines below a heading or bullet, given the topic of the lines above."""
    words = normalize(title).split()
    if len(words) > _LONGEST_HEADING:
        words = []
    known = [word for word in words if word in _TOPIC_OF_WORD and not set(words) & _NOT_APART.get(word, set())]
    own = {_TOPIC_OF_WORD[word] for word in known}
    if _OF_CPUS.search(" ".join(words)) and not {"gpu", "gpus"} & set(words):
        own.add("apart")
    if _OF_TRAINING & set(words):
        own.discard("apart")
    if " w b " in f" {' '.join(words)} ":
        own.add("wandb")
    if {"modules", "conda"} <= own and "python" in words:
        own.discard("modules")
    if own <= {"mail"} and "slurm" in above:  # a job's mails
        return above
    if "nothing" in own | above:
        return frozenset({"nothing"})
    if is_apart(own | above):
        return frozenset({"apart"})
    if not own:
        return above
    return frozenset(own if own & _NOT_SLURMS else own | (above - TOP))


def of_the_title(topic: Topic) -> Topic:
    """Return the topic of the lines below the document's title, outside all sections."""
    return (topic - _GENERAL - {"apart"}) | TOP


def is_apart(topic: Topic | set[str]) -> bool:
    """Return whether a section is about evaluation, debugging, a retired cluster, and not about the jobs."""
    return "apart" in topic


def is_of_a_site(title: str) -> bool:
    """Return whether a heading may be the name of a cluster, because it has no known word."""
    words = set(normalize(title).split())
    return bool(words) and not topic_of(title, frozenset()) and not is_label(title) and not words & _NO_SITES


def is_of_slurm(topic: Topic) -> bool:
    """Return whether an account or a time in a section is SLURM's."""
    return bool(topic & {"slurm", "top"}) or bool(topic & _GENERAL and not topic & _NOT_SLURMS)


def is_of_others(topic: Topic) -> bool:
    """Return whether an account in a section is certainly not SLURM's."""
    return bool(topic & {"nothing", "service", "mail", "wandb"}) and not is_of_slurm(topic)


def is_strict(topic: Topic) -> bool:
    """Return whether every label in a section should be a setting."""
    return bool(topic & {"slurm", "modules"})


def spellings(label: str) -> Iterator[str]:
    """Yield the spellings of a label for the tables above: as written, without `default` before or `name` after it."""
    plain = normalize(re.sub(r"\([^()]*\)", " ", label)) or normalize(label)
    words = plain.split()
    starts = 0
    while starts < len(words) - 1 and words[starts] in _PREFIXES:
        starts += 1
    for first in range(starts + 1):
        yield " ".join(words[first:])
        if words[-1:] == ["name"] and len(words) - first > 1:
            yield " ".join(words[first:-1])


def slurms(label: str) -> str | None:
    """Return the setting of SLURM that a label names in a section about SLURM."""
    return next((_SLURMS[s] for s in spellings(label) if s in _SLURMS), None)


def is_label(label: str) -> bool:
    """Return whether a label names a setting anywhere."""
    known = (_ANYWHERE, _UNLESS_OF_OTHERS, _SOMEWHERE, _SLURMS)
    return any(spelling in labels for spelling in spellings(label) for labels in known)


def setting(label: str, topic: Topic) -> str | None:
    """Return the setting that a label names in a part of the document about `topic`."""
    if "nothing" in topic or is_apart(topic):
        return None
    for spelling in spellings(label):
        if spelling in _ANYWHERE:
            return _ANYWHERE[spelling]
        if spelling in _UNLESS_OF_OTHERS and not topic & {"service", "mail", "other"}:
            return _UNLESS_OF_OTHERS[spelling]
        for name, topics in _SOMEWHERE.get(spelling, ()):
            if topic & topics:
                return name
    is_explicit = {"slurm", "sbatch"} & set(normalize(label).split())
    return slurms(label) if is_explicit or is_of_slurm(topic) else None


def is_about_jobs(label: str, topic: Topic) -> bool:
    """Return whether a label shows that its section is about jobs, even if the heading does not."""
    if _LABELS_OF_JOBS & set(spellings(label)):
        return not topic & _NOT_SLURMS
    return "machine" in topic and slurms(label) in {"account", "time"} and not topic & _NOT_SLURMS


def may_describe_the_machine(label: str, value: str, topic: Topic) -> bool:
    """Return whether `GPUs: 8` may describe a node: below Cluster, and without `Default` before it.

    Outside sections about jobs, `Memory: see the wiki` is also doubtful.
    """
    if _PREFIXES & set(normalize(label).split()) or "slurm" in topic or not is_of_slurm(topic):
        return False
    is_prose = slurms(label) in {"mem", "cpus_per_task"} and not any(c.isdigit() for c in value)
    return is_prose or (slurms(label) in _OF_MACHINES and "machine" in topic and not topic & {"defaults", "top"})


def is_for_people(label: str) -> bool:
    """Return whether a label is a known remark."""
    return normalize(label) in _FOR_PEOPLE


def is_one_task(label: str, value: str) -> bool:
    """Return whether a line gives a job one task, which it has anyway."""
    return values.without_remark(value) == "1" and not _TASKS.isdisjoint(spellings(label))


def is_other_option(label: str) -> bool:
    """Return whether a label is an unsupported option of sbatch."""
    return bool(_OTHER_OPTIONS & set(spellings(label)))


def of_the_summary(label: str) -> Parameter | None:
    """Return the hyperparameter that a label names, which belongs in the summary."""
    found = by_label(label)
    is_one = (
        found
        and found.column
        and found.name != "nodes"
        and (found.kind in {"int", "float", "bool"} or found.name == "system_prompt")
    )
    return found if is_one else None


def of_wandb(label: str) -> str | None:
    """Return the word of a label below Weights & Biases that sets its mode: `offline`, `enabled`, ..."""
    words = normalize(label).split()
    return next((word for word in words if word in {"offline", "online", "enabled", "disabled", "logging"}), None)


def nearly(label: str) -> tuple[str, str] | None:
    """Return the known label that is similar to an unknown one, and its setting."""
    known = _ANYWHERE | _SLURMS
    for spelling in spellings(label):
        likely = [one for one in known if one[0] == spelling[:1]]
        near = close_matches(spelling, likely, limit=1, cutoff=_LIKELY_MISSPELT)
        if near and len(spelling) >= _SHORTEST_MISSPELT:
            return near[0], known[near[0]]
    return None


# `conda_env=tune`, `export CONDA_ENV=tune`, `--account=lab`
_ASSIGNED = re.compile(r"(?:export\s+)?(?:--)?(?P<label>[A-Za-z][\w -]{0,60}?)\s*=\s*(?P<value>[^\s=].*)", re.ASCII)
# `Account - lab`: without a colon, but not prose if the first part is a label
_UNCLEAR = re.compile(r"(?P<label>\S.{0,40}?)\s+(?:[-–—→]|->|=>)\s+(?P<value>\S.*)", re.DOTALL)
_KEY_COLUMNS = frozenset({"setting", "key", "name", "parameter", "option", "field", "variable", "item", "property", ""})
_VALUE_COLUMNS = frozenset({"value", "values", "my value", "default", "setting", ""})
_REMARK_COLUMNS = frozenset({"note", "notes", "comment", "comments", "remark", "remarks", "description", "meaning"})
_MOST_WORDS = 3


@dataclass(frozen=True)
class LocalEntry:
    """A label and its value. `literal` values are in a code span or in quotes, and are used verbatim.

    `last` is the last line of a value of several lines, else 0.
    """

    label: str
    value: str
    full: str
    line: int
    note: str
    topic: Topic
    literal: bool = False
    last: int = 0
    unit: str = ""

    def as_field(self) -> SourceText:
        """Return the value as an untyped text."""
        return SourceText(self.value, self.line, self.note, self.full, last=self.last, unit=self.unit)

    def in_unit(self) -> Self:
        """Return the entry with the unit of its label next to its value: `Memory (GB): 64`, `mem_gb: 64`."""
        label, unit, known = values.split_unit(self.label, _of_label)
        if known is None or not unit:
            return self
        field = values.in_unit(known, unit, self.as_field())
        return replace(self, label=label, value=field.text, full=field.full or field.text, unit=field.unit)


def _of_label(label: str) -> Parameter | None:
    name = slurms(label)
    return PARAMETERS[name] if name else by_label(label)


@dataclass
class Part:
    """A section: its entries, lines that may be entries (`unclear`), tables, blocks of code, and other lines.

    `examples` are options of sbatch in a section of examples or commands, or of other jobs. `groups` has the heading of
    each line below one that may be the name of a cluster, also a bullet.
    """

    title: str
    line: int
    topic: Topic
    entries: list[LocalEntry] = field(default_factory=list)
    unclear: list[LocalEntry] = field(default_factory=list)
    examples: list[LocalEntry] = field(default_factory=list)
    groups: dict[int, str] = field(default_factory=dict)
    tables: list[tuple[Table, Topic]] = field(default_factory=list)
    fences: list[tuple[Fence, Topic]] = field(default_factory=list)
    lines: list[tuple[Text, Topic]] = field(default_factory=list)

    def entry(self, label: str, value: str, full: str, line: int, topic: Topic, *, literal: bool = False) -> LocalEntry:
        """Return an entry of this section."""
        note = f"{self.title} > {label}" if self.title else label
        return LocalEntry(label, value, full, line, note, topic, literal).in_unit()


def may_switch_wandb(entry: LocalEntry) -> bool:
    """Return whether the label of a line only names W&B, or the logger, so that its value may be a mode."""
    if entry.topic & {"nothing", "mail", "other"} or not compound.has_words_of_its_own(entry.label):
        return False
    known, words = compound.parameter_of(entry.label), normalize(entry.label)
    is_of_others = "track" in words and "experiment" not in words and not compound.names_wandb(words)
    is_mode = known is not None and known.name == "wandb_mode" and not is_of_others
    return is_mode and setting(entry.label, entry.topic) is None


def parts(root: Section) -> list[Part]:
    """Return every section of the document, in its order."""
    found = [_part(root, TOP)]
    is_titled = len(root.sections) == 1 and root.sections[0].level == 1
    for i, section in enumerate(root.sections):
        own = topic_of(section.title, frozenset())
        is_title = i == 0 and section.level == 1 and (is_titled or not own) and not own & {"nothing", "service"}
        found.append(_part(section, of_the_title(own) if is_title else own))
        above = frozenset[str]() if is_titled else own
        found += [part for below in section.sections for part in _parts(below, above)]
    return found


def _parts(section: Section, above: Topic) -> Iterator[Part]:
    topic = topic_of(section.title, above)
    yield _part(section, topic)
    for below in section.sections:
        yield from _parts(below, topic)


def _part(section: Section, topic: Topic) -> Part:
    """Return a section's own content. A line such as `**SLURM:**` is a heading of the following lines."""
    part, current = Part(section.title, section.line, topic), topic
    items: list[Text | Bullet | Table | Fence]
    items = [*section.paragraphs, *section.bullets, *section.tables, *section.fences]
    for item in sorted(items, key=lambda one: one.text.line if isinstance(one, Bullet) else one.line):
        match item:
            case Text():
                current = _below_heading(item, topic, current)
                _read_line(item, current, part)
            case Bullet():
                if pair_of(item.text) is None and is_of_a_site(item.text.plain):
                    part.groups |= {text.line: item.text.plain for text, _ in _texts(item, current)}
                for text, about in _texts(item, current):
                    for line in _lines(text):
                        _read_line(line, about, part)
                    if text.below is not None and text.fenced:
                        _read_options(text.below, text.below_last - text.below.count("\n") - 1, about, part)
            case Table():
                _read_table(item, current, part)
            case Fence():
                part.fences.append((item, current))
                _read_options(item.content, item.line + 1, current, part)
    part.unclear += _below_labels(part)
    # A partition or a time limit shows that a section is about jobs, even if the heading does not.
    if any(is_about_jobs(entry.label, entry.topic) for entry in part.entries):
        part.entries = [replace(entry, topic=entry.topic | {"defaults"}) for entry in part.entries]
    return part


def _below_heading(text: Text, topic: Topic, current: Topic) -> Topic:
    """Return the topic of the lines after a paragraph."""
    pair = text.labelled()
    is_bold = bool(text.lead) and text.lead.rstrip(": ") == text.plain.rstrip(": ")
    title = text.lead if is_bold else pair.label if pair and not pair.value else ""
    if not title or not (is_bold or len(title.split()) <= _MOST_WORDS):
        return current
    if slurms(title) or (is_label(title) and not topic_of(title, frozenset())):
        return current  # a setting without a value
    return topic_of(title, topic)


def _texts(bullet: Bullet, topic: Topic) -> Iterator[tuple[Text, Topic]]:
    """Yield a bullet and its children, for which it is a heading, or the label of the only one, a value."""
    pair, only = pair_of(bullet.text), bullet.children[0] if len(bullet.children) == 1 else None
    if pair is None and only and not only.children and _is_value(setting(bullet.text.plain, topic), only.text):
        value, code = only.text.plain, only.text.code
        yield Text(f"{bullet.text.plain}: {value}", only.text.line, code=code if code == value else None), topic
        return
    yield bullet.text, topic
    title = pair.label if pair else bullet.text.plain
    is_setting = pair is not None and bool(pair.value) and is_label(pair.label)
    below = topic if is_setting else topic_of(title, topic)
    for child in bullet.children:
        yield from _texts(child, below)


def _is_value(name: str | None, text: Text) -> bool:
    """Return whether a line may be the value of the setting in the line above, and not another label."""
    if name is None or pair_of(text) is not None or _OPTION.match(text.plain) or values.is_open(text.plain):
        return False
    if text.code is not None and text.code == text.plain:
        return True
    is_other = is_label(text.plain) and not (name == "partition" and slurms(text.plain) == "gpus")
    return not is_other and values.value_of(parameter(name), SourceText(text.plain, text.line, name)) is not None


def _below_labels(part: Part) -> Iterator[LocalEntry]:
    """Yield values below labels without a colon: the text of a section, a paragraph, one of several bullets."""
    lines = [(Text(part.title, part.line), part.topic), *part.lines]
    for (label, topic), (value, _) in itertools.pairwise(lines):
        name, found = setting(label.plain, topic), replace(value, plain=value.plain.removeprefix(":").strip())
        if pair_of(label) is None and name != "modules" and _is_value(name, found):
            yield part.entry(label.plain, found.plain, found.plain, value.line, topic)


_IN_AN_OPTION: Final = re.compile(r"\w `?-{1,2}[A-Za-z]")  # text before the `=` of `use --account=lab`


def pair_of(text: Text) -> Labelled | None:
    """Return label and value of a line: `label: value` or `key=value`, in a code span too."""
    if text.code is not None and text.code == text.plain:
        text = Text(text.code, text.line)
    pair = text.labelled()
    if pair and pair.exact and "#SBATCH" in pair.value:  # a script below a label
        return None
    if pair and is_label(pair.label):
        return pair
    assigned = _ASSIGNED.fullmatch(text.plain)
    if assigned and (pair is None or is_label(assigned["label"])):
        return Labelled(assigned["label"], assigned["value"], assigned["value"], assigned["value"])
    return None if pair and _IN_AN_OPTION.search(pair.label) else pair


def _lines(text: Text) -> Iterable[Text]:
    """Split off lines `key: value` that continue a bullet, which Markdown joins."""
    first, *more = text.plain.split("\n")
    pairs = [pair_of(Text(line.strip(), text.line)) for line in more]
    if not any(pair and is_label(pair.label) for pair in pairs):
        return [text]
    code = text.code if text.code and text.code in first else None
    rest = (Text(line.strip(), text.line + number) for number, line in enumerate(more, start=1))
    return [Text(first, text.line, text.lead, text.rest.split("\n")[0], code), *rest]


OF_JOBS: Final = frozenset({"slurm"})
_OPTION: Final = re.compile(r"-[A-Za-z][ =]|--[a-z]{2}[a-z-]{0,20}(?:[ =]|$)")


def _read_options(text: str, first: int, topic: Topic, part: Part) -> None:
    """Read #SBATCH lines, which are about jobs in any section, and keep those of an example separately."""
    for number, line in enumerate(text.split("\n"), start=first):
        for label, value in notations.sbatch_options(line):
            entry = part.entry(label, value, value, number, OF_JOBS, literal=True)
            is_example = "nothing" in topic or is_apart(topic) or notations.is_command(line)
            (part.examples if is_example else part.entries).append(entry)


def _read_line(text: Text, topic: Topic, part: Part) -> None:
    part.lines.append((text, topic))
    if any(map(notations.is_sbatch, text.plain.split("\n"))):
        _read_options(text.plain, text.line, topic, part)
        return
    if _OPTION.match(text.plain) and is_of_slurm(topic):
        _read_options(f"#SBATCH {text.plain}", text.line, topic, part)
        return
    if pair := pair_of(text):
        is_literal = text.code is not None and pair.value == text.code
        part.entries.append(part.entry(pair.label, pair.value, pair.full, text.line, topic, literal=is_literal))
    elif unclear := _UNCLEAR.fullmatch(text.plain):
        part.unclear.append(part.entry(unclear["label"], unclear["value"], unclear["value"], text.line, topic))
    elif text.lead and text.rest:
        part.unclear.append(part.entry(text.lead, text.rest, text.rest, text.line, topic))


def _read_table(table: Table, topic: Topic, part: Part) -> None:
    """Read a table of key and value as lines; keep other tables unread."""
    key, value, *others = [*(normalize(cell.plain) for cell in table.header), "", ""][: max(2, len(table.header))]
    is_read = (key in _KEY_COLUMNS and value in _VALUE_COLUMNS and key != value) or (key, value) == ("", "")
    if len(table.header) < 2 or not is_read or not _REMARK_COLUMNS.issuperset(others):  # noqa: PLR2004
        part.tables.append((table, topic))
        return
    for row in table.rows:
        label, cell = [*row.active, Text("", 0), Text("", 0)][:2]
        text, literal = cell.code or cell.plain, cell.code is not None
        part.entries.append(part.entry(label.plain, text, cell.plain, row.line, topic, literal=literal))


# --- settings in sentences

_CLAUSES: Final = re.compile(r"(?<=[.!?;]) |\n")
# Words of a clause about other jobs, other accounts, or an exception.
_NOT_OF_THE_RUNS: Final = re.compile(
    r"\?|(?<!\w)(?:not|never|no|avoid|without|\w{2,5}n['’]t|cannot|instead|unlike|except|old|former\w*|previous\w*|e\.g"
    r"|example|debug\w*|interactive\w*|salloc|srun|notebooks?|jupyter|eval\w*|inference|preprocess\w*|tests?|testing"
    r"|other|if|unless|when|may|might|could|can|or|cpu|user|username|ssh|log ?ins?|passwords?|e-?mail|github|hugging"
    r"|google|max(?:imum)?|up to|at most|only for|some|(?:short|long|small|large|big)\w{0,2} (?:jobs?|runs?))(?!\w)",
    re.IGNORECASE,
)
_USED: Final = re.compile(
    r"(?<!\w)(?:us(?:e|es|ed|ing)|go(?:es)?|runs?|submit\w{0,5}|charge[ds]?|bill(?:ed)?|pass(?:es)?|requests?|gets?|set"
    r"|specify|choose|select|defaults?|always|jobs? (?:has|have|needs?))(?!\w)",
    re.IGNORECASE,
)
_ABOUT_JOBS: Final = re.compile(r"(?<!\w)(?:jobs?|slurm|sbatch|submit\w{0,5}|partition|queue)(?!\w)", re.IGNORECASE)
_WHAT: Final = "(?:account|partition|queue|qos|quality of service|constraint|reservation)"
_STATED_NAME: Final = re.compile(
    rf"(?<![\w-])(?P<label>{_WHAT})(?: name)?(?P<verb> is|:| =|=)?(?: to| called| named)? ?"
    r"(?:[`'\"“](?P<quoted>[^\s`'\"”]{1,80})[`'\"”]"
    r"|(?P<bare>[A-Za-z0-9][\w-]{0,60})(?=[.,;:!)]{0,3}$|[,;:)] |\. | (?:and|with|on|in|for)(?!\w)))"
    rf"|[`'\"“](?P<before>[^\s`'\"”]{{1,80}})[`'\"”] (?P<after>{_WHAT})(?!\w)"
    rf"|(?:the|our|on|in|to) (?P<plain>gpu[\w-]{{0,30}}|[a-z]{{1,20}}[0-9_-][\w-]{{0,30}}) (?P<of>{_WHAT})(?!\w)",
    re.IGNORECASE,
)
_NO_NAMES: Final = (
    " name names setting settings limit limits for and is are was has must below above here there too only manager"
    " information details page by as to a an the used needed required charged available named called time option field"
    " options flag value values of that which with from this each every default list holder it on in "
)
_DURATION: Final = (
    r"[0-9]{1,3}:[0-9]{2}(?::[0-9]{2})?|[0-9]{1,2}-[0-9]{1,2}(?::[0-9]{2}){0,2}"
    r"|[0-9]{1,4}(?:\.[0-9])? ?(?:days?|hours?|hrs?|h|minutes?|mins?)"
)
_STATED_TIME: Final = re.compile(
    r"(?:(?:(?:default|job|usual) time|time limit|wall-?time(?: limit)?)(?: of| is| to|:| =|=)?(?: set to)?"
    r"|jobs? (?:each )?(?:gets?|requests?|default to|have|has|runs? for)|^requests?)(?: a time limit of)?"
    rf" `?(?P<time>{_DURATION})(?![\w:])(?! (?:on|in|of|for) (?:the|this|each|every|most|our)(?!\w))",
    re.IGNORECASE,
)
_OF_A_PARTITION: Final = re.compile(
    r"(?:partition|queue|cluster|qos|node)(?:['’]s)?(?: (?:[\w`-]{1,30} )?(?:has|have)(?: an?| the)?)? $", re.IGNORECASE
)
_LONGEST: Final = 2_000  # characters of a text that are searched
_SPAN: Final = re.compile(r"`([^`\n]{2,400})`")
_CALL: Final = re.compile(r"(?<![\w/`-])sbatch -[^`\n]{1,300}")


def clauses(text: Text, topic: Topic) -> Iterator[str]:
    """Yield the clauses of a text about the jobs of the runs, but none of a line that is read or reported."""
    pair, written, is_of_jobs = pair_of(text), text.whole or text.plain, "slurm" in topic
    if pair is not None:
        if setting(pair.label, topic) or (is_strict(topic) and not is_for_people(pair.label)):
            return
        if "slurm" in topic_of(pair.label, topic):
            written, is_of_jobs = pair.source, True
    for clause in () if is_of_others(topic) or is_apart(topic) else _CLAUSES.split(written[:_LONGEST]):
        if (is_of_jobs or _ABOUT_JOBS.search(clause)) and not _NOT_OF_THE_RUNS.search(_SPAN.sub(" ", clause)):
            yield clause.replace("**", "").strip(" .!")


def stated(clause: str) -> Iterator[tuple[str, str]]:
    """Yield the settings that a clause gives the jobs, with their values: `Jobs go to the account lab`."""
    yield from filter(None, map(_alone, re.split(r"[,;|] ?| and ", clause)))
    for match in _STATED_NAME.finditer(clause):
        label, clear = match["label"] or match["after"] or match["of"], match["quoted"] or match["before"]
        value, before = clear or match["bare"] or match["plain"], clause[: match.start()] or clause
        name = "partition" if label.lower() == "queue" else slurms(label)
        if name and (clear or f" {value.lower()} " not in _NO_NAMES) and (match["verb"] or _USED.search(before)):
            yield name, value
    for match in _STATED_TIME.finditer(clause):
        if not _OF_A_PARTITION.search(clause[: match.start()][-60:]):
            yield "time", match["time"]


def _alone(part: str) -> tuple[str, str] | None:
    """Return the setting of SLURM in a part of a list that contains nothing else: `account lab`, `time 4:00:00`."""
    label, _, value = part.strip(" -.;").rpartition(" ")
    name = slurms(label) if label else None
    is_word = f" {value.lower()} " in _NO_NAMES or (
        is_label(value) and (name, value[:3].lower()) != ("partition", "gpu")
    )
    return None if name is None or is_word else (name, value.strip("`'\""))


def options(clause: str) -> Iterator[tuple[str, str]]:
    """Yield the options of sbatch in a clause about jobs, by label: alone, of the command, or of #SBATCH lines."""
    calls = [*_SPAN.findall(clause), *(call.rstrip(" ,;:)") for call in _CALL.findall(_SPAN.sub(" ", clause))), clause]
    for call in calls:
        yield from notations.sbatch_options(f"#SBATCH {call}" if _OPTION.match(call) else call)


# --- shell commands that load modules

_LOAD: Final = frozenset({"load", "add", "try-load"})
# These commands change the loaded modules, and no setting represents them. Jobs purge modules anyway.
_CHANGE: Final = frozenset({"unload", "rm", "del", "delete", "swap", "sw", "switch", "use", "unuse", "restore"})
_REST: Final = frozenset(
    {"purge", "list", "av", "avail", "spider", "show", "display", "whatis", "help", "keyword", "save", "savelist"}
    | {"reset", "refresh", "reload", "is-loaded", "is-avail", "overview", "category", "describe"}
)
_VERSIONED: Final = re.compile(r"[A-Za-z0-9][\w.+-]*(?:/[\w.+-]+)+", re.ASCII)


class Loads(NamedTuple):
    """The modules that a line loads; `changes`: it also changes the modules in another way."""

    names: tuple[str, ...] = ()
    changes: bool = False


def is_versioned(text: str) -> bool:
    """Return whether a text is clearly a module with a version: `cuda/12.4`."""
    return bool(_VERSIONED.fullmatch(text)) and any(c.isdigit() for c in text)


def commands(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line, each as a list of words."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # an unclosed quote: keep it, so that a name with it is refused
        words = line.split()
    command: list[str] = []
    for word in words:
        if (rest := word.removesuffix(";")) and word != "&&":
            command.append(rest)
        if word == "&&" or word.endswith(";"):
            yield command
            command = []
    yield command


def loads(line: str) -> Loads:
    """Return the modules that a shell command loads: `module load a b`, or `ml a b`, Lmod's short form."""
    names: list[str] = []
    changes = False
    for command in commands(line):
        words = command[1:] if command[:1] == ["$"] else command
        program, words = words[:1], words[1:]
        if program == ["module"] and words and words[0].startswith("-"):  # module --quiet load x
            words = words[1:]
        verb = words[0] if words else ""
        if program in (["module"], ["ml"]) and verb in _LOAD:
            names += words[1:]
        elif program in (["module"], ["ml"]) and verb in _CHANGE:
            changes = True
        elif program == ["ml"] and verb not in _REST:
            names += words
    return Loads(tuple(names), changes)
