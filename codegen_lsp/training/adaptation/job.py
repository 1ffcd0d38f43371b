"""An adaptation as it is asked for, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import frozen

from codegen_lsp.checkpoints.adaptation_record import AdaptationRecord, Change, work_folder
from codegen_lsp.checkpoints.store import InstalledBuild, store_directory
from codegen_lsp.progress import ProgressReport

LEAST_GAIN = 0.0015
"""Relative gain of the estimate, with the n-grams on, below which an adaptation is not worth its time. A whole training
gave 9 to 28 times the gain of its tenth on five repositories (docs/lab.md)."""

BASE_BUILD = "base"
"""Subfolder of the working files with the int8 build of a base that is a float checkpoint."""

Stop = Callable[[], bool]


@frozen
class ClusterOptions:
    """A Ray cluster to train on."""

    address: str
    """`local` for one on this machine, `auto`, or the HOST:PORT of its head."""
    workers: int
    storage: str | None = None
    """Folder or address for checkpoints that all nodes share; None for this machine's working files."""

    @property
    def local(self) -> bool:
        """True for a cluster that is started on this machine."""
        return self.address == "local"


@frozen
class AdaptationJob:
    """One adaptation. Exactly one of `minutes` and `steps` is the budget; the latter is for tests."""

    paths: tuple[Path, ...]
    name: str
    base: str = "auto"
    """Name or folder of a build, or the folder of a float checkpoint."""
    minutes: float | None = None
    steps: int | None = None
    refresh: bool = False
    """Go on from the installed model of this name with the files that have changed."""
    anyway: bool = False
    """Train and install even where the estimate or the result shows no gain."""
    polite: bool = False
    threads: int = 1
    device: str = "auto"
    exclude: tuple[str, ...] = ()
    checkpoint: Path | None = None
    """Folder of the base's float checkpoint, to train adapters from; None where the base is such a folder."""
    cluster: ClusterOptions | None = None
    """None to train in this process."""

    @property
    def processes_here(self) -> int:
        """Number of processes on this machine that train."""
        return self.cluster.workers if self.cluster is not None and self.cluster.local else 1

    @property
    def threads_each(self) -> int:
        """Threads of each process that trains; those of this machine share its threads."""
        return max(1, self.threads // self.processes_here)


@frozen
class RunningJob:
    """A job with what its stages share."""

    job: AdaptationJob
    base: InstalledBuild
    report: ProgressReport
    """Gets the progress."""
    say: Callable[[str], None]
    """Gets lines that stay on the screen."""
    stop: Stop
    """When it returns true, training ends, and the best weights so far are installed."""

    @property
    def folder(self) -> Path:
        """The folder of the working files."""
        return work_folder(store_directory(), self.job.name)


@frozen
class Outcome:
    """The end of a job."""

    estimate: Change | None
    """On held-out files with n-grams, by a tenth of the time; None where the job did not get there."""
    record: AdaptationRecord | None = None
    build: InstalledBuild | None = None
    """None: nothing was installed."""
    interrupted: bool = False


def pays(change: Change) -> bool:
    """Return whether a change on held-out files is a gain that the interval leaves no doubt about."""
    return change.high < 0 and change.change <= -LEAST_GAIN


def default_name(paths: Sequence[Path], base: str) -> str:
    """Return the name of the model that is adapted to folders."""
    folder = paths[0].expanduser().resolve().name
    allowed = "".join(character if character.isalnum() or character in "._-" else "-" for character in folder)
    return f"{base}+{allowed.strip('.-') or 'code'}"
