"""An external setup_finetune.py: the activation of its environment, its options, and the causes of its failures.

The modules and the environment are activated once, in a login shell. The likely cause of a failure and its fix are
derived from the script's output.
"""

import functools
import os
import re
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

from pydantic import TypeAdapter, ValidationError

from scaffold_torchtune.findings import Finding, Scalar, close_matches, did_you_mean, escape, few, finding, shown
from scaffold_torchtune.models import Interface, Option, Setting
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import is_directory, is_file, is_there, read_regular, temporary_directory
from scaffold_torchtune.system.processes import VARIABLE, Environment
from scaffold_torchtune.system.serialization import YamlError, read_yaml


class Cause(NamedTuple):
    """The likely cause of a failure, and the next step; both are empty if the cause is not known.

    `is_of_script`: another setup script, such as the bundled one, would not have it; the fix says so.
    """

    cause: str = ""
    fix: str = ""
    is_of_script: bool = False


_LACKS: Final = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_TRACEBACK: Final = "Traceback (most recent call last):"
_DOTTED: Final = re.compile(r"[A-Za-z_][\w.]*")
_OF_EXCEPTIONS: Final = ("Error", "Exception", "Interrupt", "Exit", "Warning")
_RAISED: Final = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception): ")
_ARGPARSE: Final = re.compile(r"^\S.*: error: ")
_LONGEST_LINE: Final = 500


def lack_of(output: str, script: Path, environment: Environment) -> Cause | None:
    """Return the package that the output of `script`, run in `environment`, reports as missing, with a fix; or None."""
    found = _LACKS.findall(output)
    if not found:
        return None
    package = str(found[-1]).partition(".")[0]
    if not environment.name:
        activate = f" (`{environment.commands}`)" if environment.commands else ""
        fix = f"activate the environment that has this package{activate}, or omit `--no-activate`"
        return Cause(f"the active environment has no package {shown(package)}", fix)
    above = (folder for folder in script.parents[:6] if folder != Path.home())
    home = next((f for f in above if is_file(f / "pyproject.toml") or is_file(f / "setup.py")), None)
    what = f"-e {home}" if home and _belongs(package, home) else package
    fix = f"install the package: `{escape(environment.python, 500)} -m pip install {what}`"
    return Cause(f"{environment.name} has no package {shown(package)}", fix)


def _belongs(package: str, home: Path) -> bool:
    """Return whether a checkout contains the package: as a folder, by its own name, or in its pyproject.toml."""
    if home.name == package or any(is_directory(home / part / package) for part in ("", "src")):
        return True
    try:
        text = read_regular(home / "pyproject.toml").decode()
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(rf"\b{package}\b", text) is not None


def _names_exception(line: str) -> bool:
    """Return whether a line begins with the name of an exception, as the last line of a traceback does."""
    name = line.rstrip().partition(":")[0]
    is_class = any(map(str.isupper, name.rpartition(".")[2][1 if "." not in name else 0 :]))
    return bool(_DOTTED.fullmatch(name)) and (name.endswith(_OF_EXCEPTIONS) or is_class)


# The likely cause and the next step by the error message. `{0}`, ... are the groups of the expression.
_KNOWN: Final = {
    r"KeyError: 'data_dir'": Cause(
        "this version of the script does not support this kind of data set",
        "use dataset_type chat_completion or text_completion with JSON data, or use `--setup-script bundled`",
        is_of_script=True,
    ),
    r"KeyError: '(USER|HOME|LOGNAME)'|TypeError: .*NoneType": Cause(
        "the script reads an environment variable that is not set, usually USER",
        "set the variable ('export USER=$(id -un)'), then scaffold again",
    ),
    r"FileNotFoundError: .*?No such file or directory: (.*)": Cause(
        "the script needs {0}, which does not exist",
        "correct the path in the documents, or create the file, then scaffold again",
    ),
    r"PermissionError: .*?: (.*)": Cause(
        "you have no permission to read or write {0}", "request access, or correct the path, then scaffold again"
    ),
    r"No space left on device|Disk quota exceeded": Cause(
        "the file system is full or your quota is exceeded", "free space, then scaffold again"
    ),
    r"MemoryError|Cannot allocate memory": Cause(
        "the script ran out of memory", "run fewer scripts at a time (--jobs 1), or use a node with more memory"
    ),
    r"yaml\.\w+\.\w+Error|ScannerError|ParserError|ConstructorError": Cause(
        "the script could not read its setup_finetune.yaml",
        "look at the line that the message names; your own template may have generated it",
    ),
    r"error: unrecognized arguments|error: argument|error: the following arguments are required": Cause(
        "the script does not accept the arguments that it was started with",
        "specify the setup_finetune.py for which the runs were planned, or render again",
    ),
    r"SyntaxError|IndentationError": Cause(
        "the script is not written for this version of Python, or is damaged",
        "activate the environment that the script needs, or restore the script",
    ),
    r"UnicodeEncodeError|UnicodeDecodeError": Cause(
        "the locale of this shell cannot encode a character in the run's values",
        "set a UTF-8 locale ('export LANG=C.UTF-8 PYTHONUTF8=1'), then scaffold again",
    ),
    r"BlockingIOError|Resource temporarily unavailable|can't start new thread": Cause(
        "this node does not allow you to start more processes", "run fewer scripts at a time (--jobs 1)"
    ),
    r"ValueError: Unknown model: (.*)": Cause(
        "this version of the script does not know the model {0}",
        "use a newer setup_finetune.py, or use `--setup-script bundled`",
        is_of_script=True,
    ),
}


def line_that_matters(output: str) -> str:
    """Return the line of an output that reports the error, escaped; an empty string if there is no output.

    This is the exception of a traceback, even with output after it; else the error of argparse; else the last line.
    """
    lines = output.splitlines()
    found = _exception(lines) or next((line for line in reversed(lines) if _ARGPARSE.match(line)), "")
    found = found or next((line for line in reversed(lines) if line.strip() not in {"", _TRACEBACK}), "")
    return escape(found.strip(), _LONGEST_LINE)


def _exception(lines: list[str]) -> str:
    """Return the exception of the last traceback.

    If a script prints the heading and the rest to different streams, buffering moves the heading. If it has nothing
    below it, the last exception of the output is returned.
    """
    start = max((n for n, line in enumerate(lines) if line.strip() == _TRACEBACK), default=None)
    if start is None:
        return ""
    indent = len(lines[start]) - len(lines[start].lstrip())
    below = (line[indent:] for line in lines[start + 1 :] if len(line) - len(line.lstrip()) <= indent)
    found = next((line for line in below if _names_exception(line)), "")
    return found or next((line for line in reversed(lines) if _RAISED.match(line)), "")


def cause_of(line: str, status: int) -> Cause:
    """Return the likely cause of a script's exit with `status`, from the line that reports the error."""
    for pattern, known in _KNOWN.items():
        if match := re.search(pattern, line):
            groups = [group or "" for group in match.groups()]
            return known._replace(cause=known.cause.format(*groups))
    if status == -9:  # noqa: PLR2004 - SIGKILL, which this program did not send
        return Cause(
            "the system killed the script, usually because of its memory use",
            "run fewer scripts at a time (--jobs 1), or use a node with more memory",
        )
    if status < 0:
        return Cause(f"the script was ended by signal {-status}", "look at its full output")
    return Cause()


OPTIONS_PROGRAM = Path(__file__).with_name("options_program.py")

SLURM_TEMPLATE = "templates/finetune_template.slurm"
"""The SLURM template of cruijff_kit's setup_finetune.py, relative to the script's directory (in all versions)."""

FINETUNE_TEMPLATE = "templates/finetune_template.yaml"
"""The template of finetune.yaml of cruijff_kit's setup_finetune.py, relative to the script's directory (likewise)."""

# The places of settings in that template. A key that it does not have is left to the plan's table.
_IN_TEMPLATE: Final = {
    "max_seq_len": ("tokenizer", "max_seq_len"),
    "weight_decay": ("optimizer", "weight_decay"),
    "lora_attn_modules": ("model", "lora_attn_modules"),
    "apply_lora_to_mlp": ("model", "apply_lora_to_mlp"),
    "apply_lora_to_output": ("model", "apply_lora_to_output"),
    "lora_dropout": ("model", "lora_dropout"),
    "wandb_mode": ("metric_logger", "mode"),
    "gradient_accumulation_steps": ("gradient_accumulation_steps",),
    "seed": ("seed",),
    "resume_from_checkpoint": ("resume_from_checkpoint",),
    "packed": ("dataset", "packed"),
}

_LOADS = re.compile(r"^module load (\S.*)$", re.MULTILINE)
# If modules are set, all versions until August 2026 remove each line that contains the word, with this expression.
_DROPS_CONDA = re.compile(r"""["']conda["'] not in""")
# An error raised before the arguments are parsed will also occur in each run.
_NEVER_RUNS = re.compile(r"(?:ModuleNotFound|Import|Syntax|Indentation)Error\b")
_OPTIONS = TypeAdapter(dict[str, Option])


class InterfaceFault(Exception):
    """A script's options cannot be determined; the message is its last line of output, or its exit."""


def ask_interface(script: Path, python: str, environment: Mapping[str, str], timeout: float) -> Interface:
    """Determine a script's options and modules, once for each content of the script.

    Args:
        script: an existing file.
        python: the Python that runs it.
        environment: its environment variables.
        timeout: in seconds.

    Raises:
        InterfaceFault: the options cannot be determined; this is not cached, because the user may fix the script while
            a server runs.
    """
    try:
        text = _read(script)
        template, config = (_read_beside(script, name) for name in (SLURM_TEMPLATE, FINETUNE_TEMPLATE))
    except OSError as error:
        raise InterfaceFault(f"it cannot be read: {error.strerror}") from error
    options = _ask(script, text, python, tuple(environment.items()), timeout) if "argparse" in text else None
    modules = tuple(name for line in _LOADS.findall(template or "") for name in line.split())
    drops_conda, written = bool(_DROPS_CONDA.search(text)), None if config is None else _settings_in(config)
    return Interface(options=options, modules=modules, drops_conda=drops_conda, template=written)


def _read_beside(script: Path, name: str) -> str | None:
    file = script.parent / name
    return _read(file) if is_there(file) else None


def _settings_in(template: str) -> dict[str, Scalar] | None:
    """Return the values of settings in a template of finetune.yaml; None if it is not a YAML mapping."""
    try:
        data = read_yaml(template, aliases=True).data
    except YamlError:
        return None
    if not isinstance(data, dict):
        return None
    found: dict[str, Scalar] = {}
    for name, path in _IN_TEMPLATE.items():
        value: Any = data
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            value = ",".join(value)
        if isinstance(value, str | int | float):
            found[name] = value
    return found


def _read(path: Path) -> str:
    return read_regular(path).decode("utf-8", "replace")


@functools.lru_cache(maxsize=16)
def _ask(
    script: Path, _text: str, python: str, environment: tuple[tuple[str, str], ...], timeout: float
) -> dict[str, Option] | None:
    mark = f"@{secrets.token_hex(8)} "
    with temporary_directory() as folder:
        command = [python, str(OPTIONS_PROGRAM), mark, str(script)]
        try:
            done = processes.run(command, folder, timeout, env=dict(environment))
        except OSError as error:
            raise InterfaceFault(f"{python} cannot be started: {error.strerror}") from error
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    answers = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
    if answers:
        try:
            return _OPTIONS.validate_json(answers[-1]) or None
        except ValidationError:
            return None
    if done.ended:
        raise InterfaceFault(f"it did not report its options within {timeout:g} s")
    if done.status != 0 and lines and _NEVER_RUNS.match(lines[-1]):
        raise InterfaceFault(lines[-1])
    return None


@dataclass(frozen=True)
class Activation:
    """Modules, and either a conda environment or a virtual environment (its directory); empty for none."""

    modules: tuple[str, ...] = ()
    conda_env: str = ""
    venv: str = ""

    @property
    def environment(self) -> str:
        """Return the name of the environment in messages: `the conda environment cruijff`."""
        if self.venv:
            return f"the virtual environment {self.venv}"
        return f"the conda environment {self.conda_env}" if self.conda_env else ""

    @property
    def commands(self) -> str:
        """Return the commands that a person would type: `module load anaconda3/2025.6; conda activate cruijff`."""
        commands = [f"module load {name}" for name in self.modules]
        if self.venv:
            commands.append(f"source {self.venv}/bin/activate")
        elif self.conda_env:
            commands.append(f"conda activate {self.conda_env}")
        return "; ".join(commands)

    def is_active(self, variables: Mapping[str, str]) -> bool:
        """Return whether the modules and the environment are active, according to environment variables."""
        if self.venv:
            active = variables.get("VIRTUAL_ENV", "")
            is_found = bool(active) and os.path.realpath(active) == os.path.realpath(self.venv)
        else:
            is_found = variables.get("CONDA_DEFAULT_ENV", "") == self.conda_env or not self.conda_env
        loaded = variables.get("LOADEDMODULES", "").split(":")
        return is_found and all(
            any(one == name or one.startswith(f"{name}/") for one in loaded) for name in self.modules
        )


FaultKind = Literal["modules", "module", "conda", "environment", "venv", "shell"]
"""The kinds: no `module` command, a module, no conda, a conda environment, a virtual environment, the shell itself."""


@dataclass(frozen=True)
class Fault:
    """The reason why nothing was activated.

    `what` is the module or environment. `output` is the output of the failing command. `available` is the output of
    `module avail` or `conda env list`. `at` is the step that was running, and `end` how the shell ended in it.
    """

    kind: FaultKind
    what: str = ""
    output: str = ""
    available: str = ""
    at: str = ""
    end: str = "failed"


_OF_THE_SHELL: Final = frozenset({"PWD", "OLDPWD", "SHLVL", "_", VARIABLE})
"""The variables that a shell sets for itself, and the mark of this program's processes."""

ACTIVATE_SCRIPT: Final = Path(__file__).with_name("activate.sh")
"""A constant program: names from documents reach it only as arguments."""

_MOST: Final = 4_000_000  # bytes of a report; an environment is a few kilobytes


def activate(
    asked: Activation, variables: Mapping[str, str], timeout: float, stop: threading.Event | None = None
) -> dict[str, str] | Fault:
    """Activate modules and an environment in a login shell; return the environment variables, or the fault.

    Args:
        asked: the names, which their grammar restricts to plain words; a virtual environment must exist.
        variables: the environment to start from; it must contain neither secrets nor BASH_ENV.
        timeout: in seconds.
        stop: ends the activation when it is set.

    Returns:
        All variables of the new environment, minus variables that could hijack a shell or Python
        (`processes.environment`).
    """
    mark = f"@{secrets.token_hex(16)}"
    with temporary_directory() as folder:
        report = Path(folder, "report")
        report.touch()
        command = ["bash", "-l", str(ACTIVATE_SCRIPT), str(report), mark, variables.get("PATH", "")]
        command += [asked.venv, asked.conda_env, *asked.modules]
        try:
            done = processes.run(command, folder, timeout, stop, env=variables)
        except OSError as error:
            return Fault("shell", end=f"cannot be started: {error.strerror}")
        found = _read_report(read_regular(report, _MOST), mark)
    if not isinstance(found, Fault) or found.kind != "shell":
        return found
    end = f"ran longer than {timeout:g} s and was stopped" if done.ended else f"exited with status {done.status}"
    return replace(found, end=end, output=done.output[-2000:])


def _read_report(report: bytes, mark: str) -> dict[str, str] | Fault:
    """Return the variables of the environment that activate.sh activated, or its fault.

    The fault is of kind `shell` if the report is incomplete.
    """
    texts, end = report.split(b"\0"), mark.encode()
    if texts.count(end) == 2:  # noqa: PLR2004 - before the variables and after them
        first = texts.index(end)
        pairs = [text.partition(b"=") for text in texts[first + 1 : texts.index(end, first + 1)]]
        variables = {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals}
        return processes.environment({name: value for name, value in variables.items() if name not in _OF_THE_SHELL})
    words = [text.decode("utf-8", "replace") for text in texts]
    reported = dict(zip(words[::2], words[1::2], strict=False))
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    kind = next((kind for kind in kinds if kind == reported.get("fault")), kinds[-1])
    return Fault(kind, **{name: reported.get(name, "") for name in ("what", "output", "available", "at")})


_MOST_LISTED: Final = 12  # how many modules or environments are named
_LONGEST_REASON: Final = 400
_ERROR: Final = re.compile(r"error|not found|could not|cannot|unable", re.IGNORECASE)
# The remarks of `module avail` after a name: `gcc/12(default)`, `gcc/12 <L>`.
_REMARK: Final = re.compile(r"[\s(<].*")


_Problem = tuple[str, str, str, str, str | None]
"""The setting, the code, the message, the fix, and the available names."""


def activation_problem(fault: Fault, asked: Activation, settings: Mapping[str, Setting]) -> Finding:
    """Return the finding for a fault, at the line of its setting (`modules`, `conda_env`)."""
    field, code, message, fix, expected = _problem(fault, asked)
    setting = settings.get(field)
    return finding(
        code,
        message,
        field=field,
        expected=expected,
        actual=setting.text if setting else None,
        at=setting.source if setting else None,
        fix=(
            f"{fix}; alternatively, if `{asked.commands}` works in your own shell, run it there, then scaffold from"
            " that shell with `--no-activate`"
        ),
    )


def _problem(fault: Fault, asked: Activation) -> _Problem:
    reason = _reason(fault.output)
    match fault.kind:
        case "modules":
            names = few([shown(each) for each in asked.modules], len(asked.modules))
            message = (
                f"cannot load the module{'' if len(asked.modules) == 1 else 's'} {names}: the `module` command was"
                " found neither in a login shell nor in the usual places of Environment Modules and Lmod"
            )
            fix = (
                "scaffold on a machine that has the `module` command, usually a login node; if no modules are needed,"
                " remove them from claude.local.md"
            )
            return "modules", "modules-missing", message, fix, None
        case "module":
            return _module_problem(fault.what, modules(fault.available), reason)
        case "conda":
            after = f" after `module load {' '.join(asked.modules)}`" if asked.modules else " in a login shell"
            message = (
                f"cannot activate the conda environment {shown(fault.what)}: no conda, mamba or micromamba was"
                f" found{after}, neither on PATH nor through CONDA_EXE nor in the usual places"
            )
            fix = (
                "in claude.local.md, add the module that provides conda; or set CONDA_EXE to the conda program; or use"
                " a virtual environment (`--venv DIR`)"
            )
            return "conda_env", "conda-missing", _and_output(message, reason), fix, None
        case "environment":
            return _environment_problem(fault.what, environments(fault.available), reason)
        case _:
            step = f" during the step {shown(fault.at)}" if fault.at else ""
            message = f"cannot activate the environment: bash -l {fault.end}{step}"
            fix = "correct the environment, or the startup files of the login shell"
            return "conda_env", "activation-failed", _and_output(message, reason), fix, None


def _module_problem(name: str, known: Sequence[str], reason: str) -> _Problem:
    """Describe a module that does not exist, or that exists and cannot be loaded."""
    if any(one == name or one.startswith(f"{name}/") for one in known):
        message = _and_output(f"the module {shown(name)} exists, but cannot be loaded", reason)
        fix = f"try `module load {name}`; another module may have to be loaded first, or may conflict with it"
        return "modules", "activation-failed", message, fix, None
    base, bases = name.partition("/")[0], [one.partition("/")[0] for one in known]
    similar = {base} if base in bases else {*close_matches(base, bases)}
    near = [one for one, its_base in zip(known, bases, strict=True) if its_base in similar]
    near = near or close_matches(name, known, _MOST_LISTED)
    fix = f"use an existing module ({_listed(near)})" if near else "correct the name; `module avail` lists the modules"
    message = _and_output(f"the module {shown(name)} does not exist", reason)
    return "modules", "module-missing", message, fix, _listed(near)


def _environment_problem(name: str, known: Sequence[str], reason: str) -> _Problem:
    """Describe a conda environment that does not exist, or that exists and cannot be activated."""
    if name in known:
        message = _and_output(f"the conda environment {shown(name)} exists, but cannot be activated", reason)
        return (
            "conda_env",
            "activation-failed",
            message,
            f"run `conda activate {name}` in a login shell to see why it fails, and correct the cause",
            None,
        )
    fix = "use an existing environment" if known else "use an environment that `conda env list` shows"
    fix = f"{fix}, or create this one (`conda create -n {name} python`) and install torchtune in it"
    message = did_you_mean(name, known, f"the conda environment {shown(name)} does not exist.")
    return "conda_env", "environment-missing", _and_output(message, reason), fix, _listed(known)


def modules(avail: str) -> list[str]:
    """Return the names that `module -t avail` of Environment Modules or Lmod prints, without headings and remarks.

    A line that ends in a slash is the common name of several versions.
    """
    lines = (_REMARK.sub("", line.strip()) for line in avail.splitlines())
    return list(dict.fromkeys(line for line in lines if line and line[-1] not in ":/" and line[0] not in "-/"))


def environments(listed: str) -> list[str]:
    """Return the names that `conda env list` or `micromamba env list` prints: from the lines that end in a path."""
    rows = [line.split() for line in listed.splitlines() if not line.startswith("#")]
    return [row[0] for row in rows if len(row) > 1 and row[-1].startswith("/") and not row[0].startswith(("/", "*"))]


def _listed(names: Iterable[str]) -> str | None:
    """Return the first names in a row, and the number of the others; None if there are no names."""
    return few([escape(name) for name in names], _MOST_LISTED, last="") or None


def _reason(output: str) -> str:
    """Return the most informative line of a command's output: the first that names an error, else the last.

    If it ends in a colon, as with Lmod, the lines below it are added.
    """
    lines = [line.strip() for line in output.splitlines()]
    at = next((n for n, line in enumerate(lines) if _ERROR.search(line)), None)
    if at is None:
        reason = next((line for line in reversed(lines) if line), "")
    else:
        end = next((n for n in range(at, len(lines)) if not lines[n]), len(lines)) if lines[at].endswith(":") else at
        reason = " ".join(lines[at : max(end, at + 1)])
    return escape(reason, _LONGEST_REASON)


def _and_output(message: str, reason: str) -> str:
    """Return a message, followed by the line of the login shell's output, if there is one."""
    stop = "" if message.endswith("?") else "."
    return f"{message}{stop} The login shell printed: '{reason}'" if reason else message
