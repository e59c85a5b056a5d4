"""Causes of failed jobs: tables of the texts that programs print, and the fix of each, with the run's own values.

Only texts in a table are causes; otherwise state, exit status and last lines are shown.
"""

import functools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from scaffold_torchtune.findings import Finding, Scalar, counted, escape, finding, shortest_number, shown
from scaffold_torchtune.job_output import SLURM, JobOutput, OutputLine, Raised
from scaffold_torchtune.settings.kinds import as_line, common_section
from scaffold_torchtune.system.layout import LOCAL


class Sign(NamedTuple):
    """A text that a program prints for a cause; `source` is the place of that text in the program.

    The pattern of an exception is matched from the beginning of `TYPE: MESSAGE`, `frames` anywhere in `FILE FUNCTION` of
    a frame of its traceback. The pattern of another line is matched from the beginning of the line.
    """

    code: str
    pattern: str
    source: str
    frames: str = ""


_SPACE: Final = r"(?:No space left on device|Disk quota exceeded)"
_SAFETENSORS: Final = r"(?:safetensors\._)?safetensors_rust\.SafetensorError: "
_BUNDLED: Final = "templates/finetune.slurm.j2"
_BASH: Final = "bash: execute_cmd.c, builtins/source.def, and the messages of strerror(3)"

RAISED: Final = (
    Sign("job-gpu-memory", r"(?:torch\.)?(?:cuda\.)?OutOfMemoryError: (?:CUDA|HIP) out of memory", "torch: c10/cuda/CUDACachingAllocator.cpp"),
    Sign("job-gpu-memory", r"RuntimeError: (?:CUDA|HIP) out of memory", "torch before 1.13: CUDACachingAllocator.cpp"),
    Sign("job-gpu-memory", r"(?:RuntimeError|torch\.AcceleratorError): CUDA error: out of memory", "CUDA: cudaErrorMemoryAllocation, by torch: c10/cuda/CUDAException.cpp"),
    Sign("job-gpu-memory", r"RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "torch: aten/src/ATen/cuda/CUDABlas.cpp"),
    Sign("job-gpu-memory", r"(?:torch\.distributed\.DistBackendError|RuntimeError): NCCL .{0,2000}(?:Cuda failure (?:2 )?'out of memory'|Failed to CUDA calloc)", "NCCL: src/include/checks.h, alloc.h"),
    Sign("job-node-memory", r"(?:MemoryError\b|numpy\.[a-z_.]{1,60}_ArrayMemoryError: Unable to allocate)", "Python and numpy: MemoryError"),
    Sign("job-node-memory", r"OSError: \[Errno 12\] Cannot allocate memory", "errno(3): ENOMEM"),
    Sign("job-node-memory", r"RuntimeError: \[enforce fail at alloc_cpu\.cpp:[0-9]{1,6}\]", "torch: c10/core/impl/alloc_cpu.cpp"),
    Sign("job-no-space", r"[A-Za-z_.]{0,100}(?:OSError|IOError): \[Errno (?:28|122)\]", "errno(3): ENOSPC, EDQUOT"),
    Sign("job-no-space", rf"{_SAFETENSORS}.{{0,500}}{_SPACE}", "safetensors: bindings/python, of an error of Rust's std::io"),
    Sign("job-not-writable", r"OSError: \[Errno 30\] Read-only file system", "errno(3): EROFS"),
    Sign("job-not-writable", r"(?:PermissionError|FileNotFoundError|NotADirectoryError|FileExistsError): \[Errno", "Python: pathlib and os, of the directory of outputs", r" (?:save_\w+|_?make_?dirs?|mkdir)$"),
    Sign("job-wandb", r"wandb\.(?:sdk\.)?(?:errors\.)?(?:errors\.)?(?:[a-z_]+\.)*(?:UsageError: (?:api_key not configured|No API key configured)|AuthenticationError|CommError)", "wandb: sdk/lib/wbauth/authenticate.py, errors/errors.py"),
    Sign("job-config", r"torchtune\.config\._errors\.(?:InstantiationError|ConfigError)", "torchtune: config/_errors.py"),
    Sign("job-config", r"omegaconf\.errors\.", "omegaconf: errors.py"),
    Sign("job-config", r"TypeError: .{1,300} got an unexpected keyword argument|TypeError: .{1,300} missing [0-9]{1,3} required", "torchtune: config/_instantiate.py calls the component", r"torchtune/config/_instantiate\.py _create_component$"),
    Sign("job-network", r"(?:requests\.exceptions\.|urllib3\.exceptions\.|httpx\.|aiohttp\.[a-z_.]{0,40})(?:ConnectionError|MaxRetryError|NewConnectionError|ConnectError|ConnectTimeout|ProxyError|ReadTimeout|SSLError|ClientConnectorError)", "requests, urllib3, httpx, aiohttp"),
    Sign("job-network", r"huggingface_hub\.(?:errors|utils\._errors|file_download)\.(?:LocalEntryNotFoundError|OfflineModeIsEnabled)", "huggingface_hub: errors.py"),
    Sign("job-network", r"ConnectionError: (?:Couldn't reach|Cannot reach|\(MaxRetryError)", "datasets: load.py"),
    Sign("job-network", r"socket\.gaierror: \[Errno -[0-9]{1,3}\]", "Python: socket, getaddrinfo(3)"),
    Sign("job-gpu-unusable", r"RuntimeError: (?:Found no NVIDIA driver|The NVIDIA driver on your system is too old|No CUDA GPUs are available|Unexpected error from cudaGetDeviceCount|CUDA unknown error|CUDA driver initialization failed)", "torch: c10/cuda/CUDAFunctions.cpp"),
    Sign("job-gpu-unusable", r"(?:RuntimeError|torch\.AcceleratorError): CUDA error: (?:no kernel image is available|no CUDA-capable device|invalid device ordinal|CUDA-capable device\(s\) is/are busy|uncorrectable ECC error|unknown error|CUDA driver version is insufficient|system not yet initialized|GPU has fallen|uncorrectable NVLink|.{0,60}hardware)", "CUDA: cudaGetErrorString"),
    Sign("job-gpu-unusable", r"AssertionError: Torch not compiled with CUDA enabled", "torch: cuda/__init__.py"),
    Sign("job-gpu-unusable", r"RuntimeError: bf16 precision was requested but not available on this hardware", "torchtune: training/precision.py"),
    Sign("job-gpu-unusable", r"RuntimeError: The local rank is larger than the number of available ", "torchtune: utils/_device.py"),
    Sign("job-config", r"ImportError: No module named ", "torchtune: _cli/run.py runs an unknown recipe as a module", r"^<frozen runpy> _get_module_details$"),
    Sign("job-environment", r"(?:ModuleNotFoundError|ImportError)\b", "Python: importlib; torchtune raises ImportError if wandb is not installed"),
    Sign("job-environment", r"OSError: [^ ]{1,300}\.so[0-9.]{0,20}: cannot open shared object file", "dlopen(3), by ctypes"),
    Sign("job-checkpoint", _SAFETENSORS, "safetensors: bindings/python"),
    Sign("job-checkpoint", r"(?:AssertionError|ValueError): ", "torchtune: modules/peft/_utils.py", r"torchtune/modules/peft/_utils\.py validate_\w+$"),
    Sign("job-checkpoint", r"RuntimeError: Error\(s\) in loading state_dict for ", "torch: nn/modules/module.py, load_state_dict"),
    Sign("job-checkpoint", r"(?:ValueError|FileNotFoundError|OSError|NotADirectoryError|KeyError|RuntimeError|Exception|_pickle\.UnpicklingError|json\.decoder\.JSONDecodeError|IsADirectoryError|PermissionError|AttributeError|TypeError)\b", "torchtune: training/checkpointing", r"torchtune/training/checkpointing/.{1,60} (?:__init__|load_checkpoint|get_\w+|from_\w+|safe_torch_load|_?validate\w*)$"),
    Sign("job-checkpoint", r"(?:FileNotFoundError|OSError|RuntimeError|KeyError|ValueError|json\.decoder\.JSONDecodeError|PermissionError|NotADirectoryError|IsADirectoryError)\b", "torchtune: the tokenizer of a model reads its files", r"torchtune/(?:models/\w+/_tokenizer|modules/(?:transforms/)?tokenizers/\w+)\.py __init__$"),
    Sign("job-data", r"(?:datasets\.(?:exceptions|builder|data_files|utils\.[a-z_]+|arrow_writer)\.\w+|pyarrow\.lib\.Arrow\w+)\b", "datasets: exceptions.py; pyarrow"),
    Sign("job-data", r"[A-Za-z_][A-Za-z0-9_.]{0,100}", "torchtune: datasets, data, and the library datasets", r"(?:/torchtune/(?:datasets|data)/|site-packages/datasets/|dist-packages/datasets/)"),
)  # fmt: skip
"""Exceptions that end a training. For a chain of exceptions, the first matching row of this table is the cause."""

PRINTED: Final = (
    Sign("job-node-memory", SLURM + r"Detected [0-9]{1,9} oom[_-]kill event", "Slurm: plugins/task/cgroup/task_cgroup_memory.c"),
    Sign("job-node-memory", SLURM + r".{0,200}[Ee]xceeded (?:job |step |virtual )?memory limit", "Slurm: common/slurm_jobacct_gather.c"),
    Sign("job-node-memory", r"srun: error: .{1,200}: tasks? [0-9,-]{1,100}: Out Of Memory", "Slurm: srun/libsrun/launch.c"),
    Sign("job-environment", r"cannot (?:load the module|activate the (?:conda|virtual) environment) |cannot find conda$", _BUNDLED),
    Sign("job-environment", r"finetune\.yaml is not in .{1,1000}: submit this job from its run directory", _BUNDLED),
    Sign("job-environment", r"Lmod has detected the following error:", "Lmod: src/LmodError.lua"),
    Sign("job-environment", r"(?:ERROR: |.{0,60}ModuleCmd_Load\.c\([0-9]{1,6}\):ERROR:[0-9]{1,6}: )Unable to locate a modulefile for ", "Environment Modules: tcl/report.tcl.in; of 3.2 ModuleCmd_Load.c"),
    Sign("job-environment", r"(?:EnvironmentNameNotFound|EnvironmentLocationNotFound|CondaError|CommandNotFoundError|NoWritableEnvsDirError): ", "conda: exceptions.py"),
    Sign("job-environment", r"(?:critical libmamba|error\s{1,4}libmamba) ", "mamba and micromamba: libmamba/src"),
    Sign("job-environment", r"(?:/[^ :]{1,1000}|bash|-bash|sh|slurm_script): (?:(?:line )?[0-9]{1,9}: )?[^ ]{1,500}: (?:command not found|not found)$", _BASH),
    Sign("job-environment", r"/[^ :]{1,1000}: line [0-9]{1,9}: [^ ]{1,1000}/(?:activate|conda\.sh|init/bash|profile): No such file or directory$", _BASH),
    Sign("job-environment", SLURM + r"execve\(\): .{1,500}: No such file or directory", "Slurm: slurmd/slurmstepd/task.c"),
    Sign("job-no-space", rf"(?:/[^ ]{{0,500}}: line [0-9]{{1,9}}: |mkdir: cannot create directory |cp: |tee: |tar: |cat: ).{{0,1000}}: {_SPACE}$", "coreutils and bash: strerror(3)"),
    Sign("job-not-writable", r"mkdir: cannot create directory .{1,1000}: (?:Permission denied|Read-only file system)$", "coreutils: mkdir.c"),
    Sign("job-config", r"tune run: error: ", "torchtune: _cli/run.py, argparse"),
)  # fmt: skip
"""Beginnings of lines that programs other than Python print when they end a job."""

_CANCELLED: Final = SLURM + r"\*\*\* (?:JOB|STEP) .{1,200} CANCELLED AT [0-9T:.-]{10,40}"
ENDED: Final = (
    Sign("job-time-limit", _CANCELLED + " DUE TO TIME LIMIT", "Slurm: slurmd/slurmstepd/req.c"),
    Sign("job-preempted", _CANCELLED + " DUE TO PREEMPTION", "Slurm: slurmd/slurmstepd/req.c"),
    Sign("job-node-failure", _CANCELLED + " DUE TO NODE FAILURE", "Slurm: slurmd/slurmstepd/req.c"),
    Sign("job-node-failure", SLURM + r"\*\*\* .{1,200} UNCORRECTABLE MEMORY ERROR", "Slurm: slurmd/slurmstepd/req.c"),
    Sign("job-cancelled", _CANCELLED + r" (?:\*\*\*|DUE to SIGNAL)", "Slurm: slurmd/slurmstepd/req.c"),
)  # fmt: skip
"""Lines of slurmstepd when SLURM ends a job."""

ENDED_BY_SLURM: Final = frozenset(sign.code for sign in ENDED)

CONNECTED: Final = (
    Sign("job-nccl", r"(?:torch\.distributed\.Dist(?:Backend|Network|Store|)Error|RuntimeError): .{0,2000}(?:NCCL|ncclUnhandled|ncclSystem|ncclInternal|ncclRemote|EADDRINUSE|[Tt]imed out|[Cc]onnection (?:reset|closed|refused)|failed to recv)", "torch: distributed/c10d"),
    Sign("job-nccl", r"torch\.distributed\.elastic\.rendezvous\.api\.Rendezvous\w{0,40}Error", "torch: distributed/elastic/rendezvous/api.py"),
)  # fmt: skip
"""Exceptions of the connection between processes, usually a consequence of a process that ended."""

WATCHED: Final = (
    Sign("job-nccl", r"\[[EF][0-9 :.]{0,40}ProcessGroupNCCL\.cpp:[0-9]{1,6}\] .{0,200}(?:Watchdog caught collective operation timeout|watchdog thread terminated|detected by watchdog)", "torch: distributed/c10d/ProcessGroupNCCL.cpp"),
    Sign("job-nccl", r"  what\(\):  .{0,300}(?:NCCL|Watchdog|watchdog)", "torch: distributed/c10d/ProcessGroupNCCL.cpp, by std::terminate"),
)  # fmt: skip

STATES: Final = {
    "TIMEOUT": "job-time-limit",
    "OUT_OF_MEMORY": "job-node-memory",
    "CANCELLED": "job-cancelled",
    "NODE_FAIL": "job-node-failure",
    "BOOT_FAIL": "job-node-failure",
    "LAUNCH_FAILED": "job-node-failure",
    "PREEMPTED": "job-preempted",
}
"""Causes that the state of a job shows (sacct(1), JOB STATE CODES)."""


class Symptom(NamedTuple):
    """A sign of a cause that was found: its code and line; the line is empty if only the state of the job shows it."""

    code: str
    line: str = ""


def symptom(output: JobOutput | None, job_state: str = "") -> Symptom | None:
    """Return the symptom of the end of a job, from its output and its state in SLURM; None if neither shows a cause.

    An error of the training has priority over the end by SLURM, unless it is printed after it: a job with a dead process
    may hang until its time limit. An error of the connection is used only if no other error precedes it.
    """
    found = _found(output) if output else []
    if job_state == "OUT_OF_MEMORY":
        return next((each for _, each in found if each.code == "job-node-memory"), Symptom("job-node-memory"))
    if found:
        return found[0][1]
    return Symptom(STATES[job_state]) if job_state in STATES else None


def _found(output: JobOutput) -> list[tuple[tuple[int, int], Symptom]]:
    """Return symptoms with their rank and position, best first."""
    ends = [*_from_lines(output.end, ENDED)]
    ended = min((at for at, *_ in ends), default=None)
    found: list[tuple[tuple[int, int], Symptom]] = []
    for at, code, text in (*_from_exceptions(output.raised, RAISED), *_from_lines(output.end, PRINTED)):
        late = ended is not None and at > ended and code != "job-node-memory"
        found.append(((2 if late else 0, at), Symptom(code, text)))
    found += [((1, at), Symptom(code, text)) for at, code, text in ends]
    for at, code, text in (*_from_exceptions(output.raised, CONNECTED), *_from_lines(output.end, WATCHED)):
        found.append(((1, at), Symptom(code, text)))
    return sorted(found)


def _from_lines(lines: Sequence[OutputLine], signs: tuple[Sign, ...]) -> Iterator[tuple[int, str, str]]:
    any_of = _any_of(signs)
    for line in lines:
        if any_of.match(line.text):
            yield line.at, next(sign.code for sign in signs if re.match(sign.pattern, line.text)), line.text


@functools.cache
def _any_of(signs: tuple[Sign, ...]) -> re.Pattern[str]:
    """Return one pattern for all signs, because most lines match none of them."""
    return re.compile("|".join(f"(?:{sign.pattern})" for sign in signs))


def _from_exceptions(raised: Sequence[Raised], signs: Sequence[Sign]) -> Iterator[tuple[int, str, str]]:
    """Yield the position, code and text of each chain of exceptions, by the first sign of the table that matches one."""
    chains: dict[int, list[Raised]] = {}
    for each in raised:
        chains.setdefault(each.chain, []).append(each)
    for at, chain in chains.items():
        if code := next((sign.code for sign in signs for each in chain if _fits(sign, each)), None):
            alike = [sign for sign in signs if sign.code == code]
            root = next(each for each in chain if any(_fits(sign, each) for sign in alike))
            yield at, code, root.text


def _fits(sign: Sign, raised: Raised) -> bool:
    if re.match(sign.pattern, raised.text) is None:
        return False
    return not sign.frames or any(re.search(sign.frames, frame) for frame in raised.frames)


@dataclass(frozen=True)
class JobEnd:
    """A job as SLURM describes it: id, state, exit status in the form of sacct (`1:0`), run time and limit in seconds."""

    id: str = ""
    state: str = ""
    exit_code: str = ""
    elapsed: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Requested:
    """The requests of a run, from its files; None if they have no such value.

    `experiment` and `run` are its directories. `places` are the lines of documents that give a setting: `summary.md:22`.
    `alone` returns the fix that gives a setting a value for this run only, or an empty text if the line for all runs may
    change; `yaml` is the form of the summary.
    """

    experiment: str
    run: str
    output: str = ""
    batch_size: int = 1
    accumulation: int = 1
    gpus: int = 1
    max_seq_len: int | None = None
    checkpointing: bool | None = None
    lr: float | None = None
    epochs: int = 1
    memory: str = ""
    time: int | None = None
    resumes: bool = False
    environment: str = ""
    model: str = ""
    data: str = ""
    output_dir: str = ""
    places: Mapping[str, str] | None = None
    yaml: bool = False
    alone: Callable[[str, Scalar], str] = lambda _setting, _value: ""

    def place(self, setting: str) -> str:
        """Return the line of a document that gives a setting, in parentheses; an empty text if none does.

        If other runs with results have it from the same line, it must not change.
        """
        found = (self.places or {}).get(setting, "")
        if self.alone(setting, 0):
            now = f"; now set in {found}" if found else ""
            return f" (only in the {'parameters' if self.yaml else 'row'} of {self.run}{now})"
        return f" ({found})" if found else ""

    def give(self, setting: str, value: Scalar) -> str:
        """Return the fix that sets a value, with the line to write and the line that sets it now, if any."""
        if alone := self.alone(setting, value):
            return alone
        line = (self.places or {}).get(setting, "")
        now = f" (instead of the current value in {line})" if line else ""
        if line.startswith(LOCAL):
            now = f" (it overrides the current value in {line})"
        section, new = common_section(yaml=self.yaml), as_line(setting, value, yaml=self.yaml)
        return f"{'write' if line else 'add'} {new} {'in' if line else 'to'} {section}{now}"

    @property
    def again(self) -> str:
        """Return the fix if the run can be submitted unchanged."""
        where = shlex.quote(self.experiment)
        return f"submit again: `scaffold-torchtune submit {where} --failed --only {self.run}`"

    @property
    def after(self) -> str:
        """Return the end of a fix that changes the documents."""
        command = f"scaffold-torchtune submit {shlex.quote(self.experiment)} --only {self.run}"
        return f"; then scaffold with `--started replace={self.run}`, and submit again: `{command}`"


def cause(found: Symptom, job: JobEnd, asked: Requested, output: JobOutput | None) -> Finding:
    """Return the cause as a finding, with the requests of the run and the fix."""
    message, fix = _TEXTS[found.code](_Case(found, job, asked, output))
    line = f"; the output contains '{escape(found.line.strip(), limit=240)}'" if found.line else ""
    return finding(found.code, f"{message}{line}", file=asked.output or None, fix=fix)


def not_well(job: JobEnd, asked: Requested, output: JobOutput | None, saved: int | None) -> Finding | None:
    """Return the problem of a run that still trains, or that ended without an error; None if there is none.

    Args:
        job: the last job of the run.
        asked: the requests of the run.
        output: the job's output; None if it cannot be read.
        saved: epochs with a checkpoint in the output directory; None if that is not known.
    """
    if output and output.nan_from is not None:
        return _nan(asked, output)
    if output and output.last is None and output.saved:
        message = (
            "the job trained 0 steps and saved the unchanged model: a step needs more samples than the data set has"
        )
        fix = f"lower the batch size{asked.place('batch_size')} or the gradient accumulation, or add data{asked.after}"
        return finding("no-steps", message, field="batch_size", actual=0, file=asked.output or None, fix=fix)
    if job.state == "COMPLETED" and saved is not None and saved < asked.epochs:
        were = "was" if saved == 1 else "were"
        part = f"{saved} of {counted(asked.epochs, 'epoch')}"
        named = f"job {job.id}" if job.id else "the job"
        message = f"SLURM reports that {named} completed, but only {part} {were} saved"
        last = (
            f"; its output ends with '{escape(output.last_lines[-1], limit=240)}'"
            if output and output.last_lines
            else ""
        )
        fix = f"find the cause in {asked.output or 'the output of the job'}, and correct it; then {asked.again}"
        return finding("epochs-missing", message + last, expected=asked.epochs, actual=saved, fix=fix)
    return None


def unexplained(job: JobEnd, asked: Requested, output: JobOutput | None) -> Finding:
    """Return the finding for a job that ended for an unknown reason."""
    unknown = "the run has no pending or running job, but its training is not complete"
    state = f"the job ended in state {job.state}" if job.state else unknown
    status = _exit(job.exit_code)
    lines = " | ".join(escape(line, limit=160) for line in output.last_lines) if output else ""
    last = f"; its output ends with '{lines}'" if lines else "; its output contains no reason" if output else ""
    fix = f"find the cause in {asked.output}, and correct it; then {asked.again}" if asked.output else asked.again
    return finding("job-failed", f"{state}{status}{last}", file=asked.output or None, fix=fix)


def _exit(code: str) -> str:
    """Return sacct's `STATUS:SIGNAL` as a part of a sentence."""
    status, _, signal = code.partition(":")
    if signal.isdigit() and int(signal):
        return f" by signal {signal}"
    return f" with exit status {status}" if status.isdigit() and int(status) else ""


class _Case(NamedTuple):
    found: Symptom
    job: JobEnd
    asked: Requested
    output: JobOutput | None


_WANTED: Final = re.compile(r"Tried to allocate ([0-9.]{1,20} [KMGT]?i?B)")
_CAPACITY: Final = re.compile(r"total capacity of ([0-9.]{1,20} [KMGT]iB)|; ([0-9.]{1,20} [KMGT]iB) total capacity")


def _gpu_memory(of: _Case) -> tuple[str, str]:
    asked = of.asked
    capacity = _CAPACITY.search(of.found.line)
    size = f" of {capacity[1] or capacity[2]}" if capacity else ""
    length = f" x max_seq_len {asked.max_seq_len}" if asked.max_seq_len else ""
    checkpointing = {True: " with activation checkpointing", False: " without activation checkpointing"}
    how = f"batch size {asked.batch_size}{length}{checkpointing.get(asked.checkpointing or False, '')}"
    ways = []
    if asked.batch_size > 1:
        smaller = max(each for each in range(1, asked.batch_size // 2 + 1) if asked.batch_size % each == 0)
        more = asked.accumulation * asked.batch_size // smaller
        whole = asked.batch_size * asked.accumulation * asked.gpus
        ways.append(
            f"{asked.give('batch_size', smaller)} and {asked.give('gradient_accumulation_steps', more)}, which keeps the"
            f" effective batch size at {whole}"
        )
    if not asked.checkpointing:
        ways.append(asked.give("enable_activation_checkpointing", value=True))
    if not ways:
        shorter = f"lower Max sequence length (now {asked.max_seq_len}), or " if asked.max_seq_len else ""
        ways.append(f"{shorter}request more GPUs or GPUs with more memory")
    either = "either " if len(ways) > 1 else ""
    return f"GPU memory{size} is too small for {how}", either + ", or ".join(ways) + asked.after


_MEMORY: Final = re.compile(r"([0-9]{1,9})([KMGTkmgt]?)[Bb]?")


def _node_memory(of: _Case) -> tuple[str, str]:
    match = _MEMORY.fullmatch(of.asked.memory)
    wanted = f"{2 * int(match[1])}{match[2].upper()}" if match and int(match[1]) else ""
    asked = f"the {of.asked.memory} of memory that it requested" if of.asked.memory else "its node's memory"
    how = of.asked.give("mem", wanted) if wanted else f"raise the memory{of.asked.place('mem')}"
    return f"the job needed more than {asked}", f"{how}{of.asked.after}"


_MEASURED: Final = 20  # minimum of seconds on a bar for a reliable rate


def _time_limit(of: _Case) -> tuple[str, str]:
    asked, output = of.asked, of.output
    limit = of.job.limit or asked.time
    told = f"the time limit{f' of {slurm_time(limit)}' if limit else ''} was reached"
    last, first = (output.last, output.first) if output else (None, None)
    if last is None or first is None or not last.per_epoch:
        fix = f"look for the cause of the delay at the end of {asked.output or 'the output'}, and correct it"
        more = f"if the job only needs more time, raise the time limit{asked.place('time')}"
        return f"{told} before the first step was completed", f"{fix}; {more}{asked.after}"
    total, trained = last.per_epoch * asked.epochs, last.number - first.number + 1
    shown_rate = last.seconds / last.done if last.done and last.seconds >= _MEASURED else 0.0
    spent = of.job.elapsed or limit or round(trained * shown_rate)
    rate = min(shown_rate or spent / trained, spent / trained)
    need = spent + rate * (total - last.number)  # includes loading the model and similar work
    told += f" at step {last.number} of {total} (epoch {last.epoch} of {asked.epochs}; {max(rate, 0.1):.1f} s per step)"
    if asked.resumes and output and output.saved:
        return (
            told,
            f"no change is needed, because training resumes after epoch {first.epoch - 1 + output.saved}; {asked.again}",
        )
    enough = slurm_time(_rounded(1.1 * need))
    fix = asked.give("time", enough)
    return f"{told}; the whole job needs about {slurm_time(round(need))}", f"{fix}{asked.after}"


def slurm_time(seconds: int) -> str:
    """Return a time in the form of SLURM: `0:59:00`, `1-12:00:00`."""
    days, rest = divmod(max(seconds, 0), 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock.zfill(8)}" if days else clock


def _rounded(seconds: float) -> int:
    """Return a time rounded up to quarters of an hour, or to minutes if it is at most a quarter of an hour."""
    unit = 900 if seconds > 900 else 60  # noqa: PLR2004 - see above
    return -int(-seconds // unit) * unit


def _nan(asked: Requested, output: JobOutput) -> Finding:
    last, since = output.last, output.nan_from
    at = f"from step {since} on" if last and since != last.number else f"at step {since}"
    is_first = output.first is not None and since == output.first.number
    lr = f" below {shortest_number(asked.lr)}{asked.place('lr')}" if asked.lr else ""
    rows = "remove samples without an answer (`scaffold-torchtune plan` reports them as no-labels)"
    lower = f"lower the learning rate{lr} or lengthen the warm-up"
    again = "then scaffold and submit again in the same way"
    if is_first:
        fix = f"{rows}; if there are none, {lower}{asked.after}"
    else:
        fix = f"{lower}{asked.after}; if that does not help, {rows}, {again}"
    job = (
        "cancel the job if it is still running"
        if last and not _is_over(last.epoch, last.done, last.per_epoch, asked)
        else ""
    )
    message = f"the loss is not finite {at}, so the training is unusable from that step on"
    fix = f"{job}; {fix}" if job else fix
    return finding("job-nan-loss", message, field="loss", file=asked.output or None, fix=fix)


def _is_over(epoch: int, done: int, per_epoch: int, asked: Requested) -> bool:
    return epoch >= asked.epochs and done == per_epoch


_VALUES: Final[Mapping[str, Scalar]] = {
    "save_adapter_weights_only": True, "wandb_mode": "offline", "resume_from_checkpoint": True,
}  # fmt: skip


def _simply(message: str, fix: str) -> Callable[[_Case], tuple[str, str]]:
    """Return a function for a cause with fixed sentences.

    {NAME} in them is a field of `Requested`, or the fix that sets a value of `_VALUES`.
    """

    def text(of: _Case) -> tuple[str, str]:
        texts = {name: value for name, value in vars(of.asked).items() if isinstance(value, str)}
        texts = {name: shown(value) if name not in {"run", "output"} else value for name, value in texts.items()}
        given = {name: of.asked.give(name, value) for name, value in _VALUES.items() if f"{{{name}}}" in fix}
        named = {"again": of.asked.again, "after": of.asked.after, **texts, **given}
        return message.format_map(named), fix.format_map(named)

    return text


_TEXTS: Final[Mapping[str, Callable[[_Case], tuple[str, str]]]] = {
    "job-gpu-memory": _gpu_memory,
    "job-node-memory": _node_memory,
    "job-time-limit": _time_limit,
    "job-no-space": _simply(
        "the job cannot write because the disk is full or the quota is used up",
        "free disk space on the file system of {output_dir}, or in your quota there; if that is not possible, choose a"
        " different output directory, or {save_adapter_weights_only} to save less, and scaffold with"
        " `--started replace={run}`; then {again}",
    ),
    "job-not-writable": _simply(
        "the job cannot write to its output directory",
        "get write permission for {output_dir}, or choose a different output directory and scaffold with"
        " `--started replace={run}`; then {again}",
    ),
    "job-environment": _simply(
        "the environment of the job lacks a module, command or package",
        "to see the problem, run the lines of {run}/finetune.slurm that load modules and activate the environment in a"
        " login shell; then either install the missing package into {environment}, or correct the modules or the"
        " environment in the documents and scaffold with `--started replace={run}`; then {again}",
    ),
    "job-gpu-unusable": _simply(
        "torch cannot use the GPU of the job",
        "compare the CUDA version of torch with the driver of the nodes (nvidia-smi): if they are incompatible, install a build"
        " of torch for that driver; if only some nodes fail, or their GPUs lack bf16, exclude them (Exclude) or request"
        " different GPUs (Constraint, GPU type), and scaffold with `--started replace={run}`; then {again}",
    ),
    "job-nccl": _simply(
        "the processes of the job cannot communicate",
        "look in {output} for the first error, and correct its cause; if there is none, export NCCL_DEBUG=INFO before you"
        " submit, to log more details; then {again}",
    ),
    "job-data": _simply(
        "the data set cannot be read with the settings of the run",
        "either correct the file {data}, or correct the data set and its columns in the summary (`scaffold-torchtune plan`"
        " checks them if it can read the file) and scaffold with `--started replace={run}`; then {again}",
    ),
    "job-checkpoint": _simply(
        "the base model cannot be loaded",
        "if {model} is not the right directory, correct the path in the documents and scaffold with"
        " `--started replace={run}`; if you may not read it, ask its owner; if files are missing or truncated, download the"
        " model again; then {again}",
    ),
    "job-config": _simply(
        "torchtune rejected finetune.yaml",
        "find the wrong or missing setting with `scaffold-torchtune validate --with-torchtune`, and correct it in the"
        " summary{after}",
    ),
    "job-network": _simply(
        "the job needs network access, which its node does not have",
        "copy the data set and the model to a disk that the nodes mount, and use the new paths in the summary{after}",
    ),
    "job-wandb": _simply(
        "Weights & Biases rejected the run or could not be reached",
        "either run `wandb login` once on the cluster, or {wandb_mode} and scaffold with"
        " `--started replace={run}`; then {again}",
    ),
    "job-preempted": _simply(
        "SLURM preempted the job for a job of higher priority",
        "if long runs should continue after a preemption, {resume_from_checkpoint} and"
        " scaffold with `--started replace={run}`; in either case, {again}",
    ),
    "job-node-failure": _simply("the job ended because its node failed", "{again}"),
    "job-cancelled": _simply("the job was cancelled", "no action if intended; otherwise {again}"),
}
"""The message and the fix of each cause."""

CAUSES: Final = frozenset(_TEXTS)
