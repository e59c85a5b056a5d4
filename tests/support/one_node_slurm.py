"""A real Slurm of one node on the loopback interface, with its own munge, configuration and ports.

The node claims CPUs, memory and GPUs that this machine may not have; two more nodes are down, and only exist to be
excluded. A Slurm that already runs here is not used or disturbed.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.waiting import PATIENCE

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))  # daemons are not on every PATH
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL"}

CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
EnforcePartLimits=ALL
GresTypes=gpu
MpiDefault=none
NodeName=gpu01 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=2000000 Gres=gpu:a100:8 Feature=gpu80,a100
NodeName=gpu[02-03] NodeAddr=127.0.0.1 Port=[2-3] CPUs=1 State=DOWN
PartitionName=gpu Nodes=gpu01 Default=YES MaxTime=7-00:00:00
PartitionName=short Nodes=gpu01 MaxTime=2:00:00
PartitionName=members Nodes=gpu01 AllowAccounts=members
"""
GPUS = "NodeName=gpu01 Name=gpu Type=a100 File={folder}/gpu[0-7]\n"


@dataclass(frozen=True)
class Slurm:
    """A running Slurm; `environment` has the variables that its commands need."""

    environment: Mapping[str, str]

    def call(self, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of this Slurm, with additional variables in its environment."""
        return subprocess.run(
            command,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def state(self, job: str) -> str:
        """Return the state of a job once it has ended."""
        for _ in _patience():
            shown = self.call("scontrol", "show", "job", job)
            state = _word("JobState", shown.stdout)
            if state in _ENDED:
                return state
        raise TimeoutError(f"job {job} has not ended: {shown.stdout}{shown.stderr}")


def missing() -> list[str]:
    """Return the programs of Slurm and munge that are missing on this machine."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


@contextmanager
def running() -> Iterator[Slurm]:
    """Start munged, slurmctld and slurmd, and end them and their jobs afterwards."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as daemons:
        folder = Path(name)
        slurm = Slurm(_environment(folder))
        _write(folder)
        daemons.enter_context(_daemon(folder, *_munged(folder)))
        _wait_for(folder, "munge.socket", (folder / "munge.socket").exists)
        daemons.enter_context(_daemon(folder, "slurmctld", "-D", "-f", str(folder / "slurm.conf")))
        daemons.enter_context(_daemon(folder, "slurmd", "-D", "-f", str(folder / "slurm.conf")))
        _wait_for(folder, "the node", lambda: _node_is_idle(slurm))
        try:
            yield slurm
        finally:
            slurm.call("scancel", "--user", _user())
            _wait_for(folder, "the end of every job", lambda: _node_is_idle(slurm))


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment without the variables of jobs or administrators of another Slurm."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    return own | {"PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")}


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _write(folder: Path) -> None:
    """Write the configuration, munge's key and the directories that Slurm needs."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    with socket.socket() as one, socket.socket() as other:
        ports = []
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
            ports.append(each.getsockname()[1])
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(host=host, user=_user(), folder=folder, control_port=ports[0], node_port=ports[1])
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(GPUS.format(folder=folder))
    for number in range(8):
        (folder / f"gpu{number}").symlink_to("/dev/null")
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)


def _munged(folder: Path) -> Sequence[str]:
    places = {"socket": "socket", "key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
    options = [f"--{option}={folder}/munge.{name}" for option, name in places.items()]
    # its directory is closed to other users, which munged accepts only with this option
    return ["munged", "--foreground", "--force", *options]


@contextmanager
def _daemon(folder: Path, name: str, *arguments: str) -> Iterator[None]:
    """Start a daemon in the foreground of a process that can be ended."""
    program = shutil.which(name, path=_PATH)
    assert program, name
    with (folder / f"{name}.out").open("wb") as output:
        process = subprocess.Popen(
            [program, *arguments],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _node_is_idle(slurm: Slurm) -> bool:
    return _word("State", slurm.call("scontrol", "show", "node", "gpu01").stdout) == "IDLE"


def _word(name: str, text: str) -> str:
    """Return the value of a `name=value` in the output of scontrol, or an empty text."""
    found = re.search(rf"\b{name}=(\S+)", text)
    return found[1] if found else ""


def _wait_for(folder: Path, what: str, ready: Callable[[], bool]) -> None:
    for _ in _patience():
        if ready():
            return
    said = "\n".join(f"{file.name}: {file.read_text(errors='replace')[-2000:]}" for file in folder.glob("*.out"))
    raise TimeoutError(f"Slurm: waited in vain for {what}\n{said}")


def _patience() -> Iterator[None]:
    """Try repeatedly, with pauses, for as long as a busy machine may take."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        yield
        time.sleep(0.2)
