"""Remove the prepared patient images that a run or study leaves behind."""

from __future__ import annotations

import contextlib
from pathlib import Path

from DanteSegmenterLib.errors import InputError

from ..data.cache import clean_cache, is_prepared
from ..locks import holding
from ..run.run_folder import cache_of, read_run
from ..status import RUN_FILE
from .plan import RUNS_FOLDER
from .run import CACHE_FOLDER


def clean(folder: Path) -> str:
    """Delete the prepared images of a run, a study, or a separate cache; returns a message.

    A run's cache outside the run folder may be shared: it is reported and kept.

    Raises:
        InputError: the folder is none of these.
        ResourceError: it is in use, or cannot be changed.
    """
    if (folder / RUN_FILE).is_file():
        cache = cache_of(folder, read_run(folder))
        if not cache.is_relative_to(folder.resolve()):
            return f"left the cache '{cache}', which may serve other runs. To remove it: clean '{cache}'."
        with holding(folder):
            return _describe_removal(clean_cache(cache), cache)
    if (folder / RUNS_FOLDER).is_dir() and (folder / CACHE_FOLDER).is_dir():
        with contextlib.ExitStack() as held:
            for run in filter(Path.is_dir, sorted((folder / RUNS_FOLDER).iterdir())):
                held.enter_context(holding(run))
            return _describe_removal(clean_cache(folder / CACHE_FOLDER), folder / CACHE_FOLDER)
    if folder.is_dir() and any(folder.iterdir()) and all(map(is_prepared, folder.iterdir())):
        return _describe_removal(clean_cache(folder), folder)
    raise InputError(f"'{folder}' is neither a run, nor a study, nor a cache of prepared cases; nothing was removed.")


def _describe_removal(cases: int, cache: Path) -> str:
    return f"removed {cases} prepared {'case' if cases == 1 else 'cases'} from '{cache}'"
