"""Cache of prepared cases on disk, memory-mapped: drawing a patch reads only that patch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import InputError, ResourceError, reason
from DanteSegmenterLib.guard.busy_files import move
from DanteSegmenterLib.model_folder import Preprocessing
from DanteSegmenterLib.preprocess import Background, background_of, prepare
from DanteSegmenterLib.strict_dataclass import to_plain
from DanteSegmenterLib.volume import Volume

from ..ending import end_with_parent, finish_before_stop
from ..locks import remove_left_over, scratch_folder
from ..settings.tasks import Task
from ..whole_files import make_writable

# Increase when preparation of the same files gives a different result.
CACHE_VERSION = 1
# Prefix of the folders in which processes build files before moving them into place.
SCRATCH = ".writing-"
# Voxels stored per region for foreground oversampling, as in nnU-Net: at most 10,000, or 1 % if that is more.
PLACES = 10_000
PLACES_SHARE = 0.01


@dataclass(frozen=True)
class CachedCase:
    """A prepared case on disk.

    background: value of the background in `images.npy`, per channel.

    Files: `images.npy` float16 [C, K, J, I], all modalities of the task, normalised (float16 is precise enough for
    z-scores and halves the size); `labels.npy` uint8 [K, J, I], bit r set inside region r; `places_r.npy` int32 [N, 3]
    voxels (K, J, I) of region r.
    """

    name: str
    folder: Path
    labelled: bool
    background: Background

    def images(self) -> np.ndarray:
        return np.load(self.folder / "images.npy", mmap_mode="r")

    def labels(self) -> np.ndarray:
        return np.load(self.folder / "labels.npy", mmap_mode="r")

    def places(self, region: int) -> np.ndarray:
        return np.load(self.folder / f"places_{region}.npy", mmap_mode="r")


def cache_cases(
    cases: Sequence[Case], task: Task, preprocessing: Preprocessing, folder: Path, workers: int = 0, quiet: bool = False
) -> list[CachedCase]:
    """Prepare the cases that are not in `folder` yet, in `workers` processes or in this one.

    Raises:
        InputError: an image or mask cannot be used; names the case.
        ResourceError: no space left.
    """
    targets = [folder / f"{case.name}-{_digest(case, task, preprocessing)}" for case in cases]
    remove_left_over(folder, SCRATCH)
    if not all(target.is_dir() for target in targets):
        with _scratch(folder) as scratch:  # removes anything half-written
            todo = [
                (case, task, preprocessing, target, scratch)
                for case, target in zip(cases, targets)
                if not target.is_dir()
            ]
            with (
                contextlib.closing(_map(workers, todo)) as prepared,
                tqdm(total=len(todo), desc="Preparing cases", unit="case", leave=False, disable=quiet) as bar,
            ):
                for _ in prepared:
                    bar.update()
    background = _as_stored(background_of(preprocessing, task.full))
    cached = [CachedCase(case.name, target, case.label is not None, background) for case, target in zip(cases, targets)]
    for case in cached:
        _check_intact(case, task)
    return cached


def _as_stored(background: Background) -> Background:
    """Round background values to float16 as the images are, so that they compare equal."""
    return replace(background, values=tuple(float(np.float16(value)) for value in background.values))


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[str]:
    """Scratch folder inside the cache.

    Raises:
        ResourceError: the cache cannot be written.
    """
    make_writable(folder)
    with scratch_folder(folder, SCRATCH) as scratch:
        yield str(scratch)


def _check_intact(case: CachedCase, task: Task) -> None:
    """Check the files of a cached case before workers use them.

    Raises:
        ResourceError: a file is damaged.
    """
    try:
        images, labels = case.images(), case.labels()
        places = [case.places(region) for region in range(len(task.regions))]
        right = (
            images.dtype == np.float16 and labels.dtype == np.uint8 and images.shape == (len(task.full), *labels.shape)
        )
        right = right and labels.ndim == 3 and all(p.dtype == np.int32 and p.shape[1:] == (3,) for p in places)
    except (OSError, ValueError, EOFError):
        right = False
    if not right:
        raise ResourceError(
            f"the prepared case '{case.folder}' is damaged. Delete that folder (or the whole cache: `clean RUN`), and "
            "it will be prepared again."
        )


Job = tuple[Case, Task, Preprocessing, Path, str]
"""A case, task and preprocessing, its target folder in the cache, and the scratch folder."""


def _map(workers: int, todo: list[Job]) -> Generator[None, None, None]:
    if workers < 2 or len(todo) < 2:
        yield from map(_prepare_case, todo)
        return
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        try:
            yield from pool.map(_prepare_case, todo)
        except BrokenProcessPool:
            raise ResourceError(
                "a process that prepares cases was killed, as the system does when memory runs out. Resume the run; if "
                "it happens again, with fewer of them: --set data.workers=0."
            ) from None
        except BaseException:  # an unusable case, or a request to stop: do not wait for the rest
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if process not in others:
                    process.kill()
                    process.join()
            raise


def _digest(case: Case, task: Task, preprocessing: Preprocessing) -> str:
    """Hash of everything that determines the cached content: files, settings, labels."""
    sources = {**case.images, "label": case.label}
    files = {}
    for name, source in sources.items():
        if source is not None:
            stat = source.path.stat()
            # Without the directory: a moved dataset need not be prepared again.
            files[name] = [source.path.name, source.component, stat.st_size, stat.st_mtime_ns]
    plain = [CACHE_VERSION, files, task.full, to_plain(preprocessing), {k: list(v) for k, v in case.regions.items()}]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _prepare_case(job: Job) -> None:
    case, task, preprocessing, target, scratch = job
    try:
        volumes = case.read_images()
        prepared = prepare(volumes, task.full, preprocessing)
        label = None if case.label is None else region_bits(case.label.read(), case, task)
        bits = prepared.geometry.labels_to_network(label) if label else np.zeros(prepared.geometry.shape, np.uint8)
    except InputError as error:
        raise InputError(f"case '{case.name}': {error}") from None
    _write(target, scratch, prepared.tensor.astype(np.float16), bits, len(task.regions))


def region_bits(labels: Volume, case: Case, task: Task) -> Volume:
    """Integer labels -> uint8 with bit r set inside region r of the task.

    Raises:
        InputError: the mask has labels unknown to its label scheme.
    """
    case.check_labels(labels)
    bits = np.zeros(labels.shape, np.uint8)
    for r, region in enumerate(task.regions):
        bits |= np.isin(labels.array, case.regions[region.id]).astype(np.uint8) << np.uint8(r)
    return labels.with_array(bits)


def _write(target: Path, scratch: str, images: np.ndarray, bits: np.ndarray, regions: int) -> None:
    """Write all files or none: built in the scratch folder, then moved into place."""
    try:
        with finish_before_stop():
            temporary = Path(tempfile.mkdtemp(dir=scratch))
            np.save(temporary / "images.npy", images)
            np.save(temporary / "labels.npy", bits)
            for r in range(regions):
                np.save(temporary / f"places_{r}.npy", _places(bits, r))
            move(temporary, target)
    except OSError as error:
        if not target.is_dir():  # else another process was faster, with the same content
            raise ResourceError(f"the cache '{target.parent}' could not be written: {reason(error)}.") from None


def _places(bits: np.ndarray, region: int) -> np.ndarray:
    places = np.argwhere((bits >> region) & 1).astype(np.int32)
    keep = max(PLACES, round(PLACES_SHARE * len(places)))
    if len(places) > keep:
        places = np.random.default_rng(0).permutation(places)[:keep]
    return places


def clean_cache(folder: Path) -> int:
    """Delete a cache's prepared cases, and nothing else; returns their number.

    Raises:
        ResourceError: another process is preparing cases there.
    """
    if not folder.is_dir():
        return 0
    if remove_left_over(folder, SCRATCH):
        raise ResourceError(f"somebody prepares cases in '{folder}'. Wait, or stop that first.")
    ours = [path for path in folder.iterdir() if is_prepared(path)]
    for path in ours:
        shutil.rmtree(path)
    with contextlib.suppress(OSError):  # the folder contains other files
        folder.rmdir()
    return len(ours)


def is_prepared(path: Path) -> bool:
    """Whether a folder was written by this cache: its name ends in a digest, and it has only our files."""
    if path.is_symlink() or not path.is_dir() or not re.fullmatch(r".+-[0-9a-f]{16}", path.name, re.DOTALL):
        return False
    return all(re.fullmatch(r"(images|labels|places_\d+)\.npy", file.name) for file in path.iterdir())
