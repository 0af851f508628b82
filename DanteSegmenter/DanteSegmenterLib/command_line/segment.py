"""Command `segment`: segment image files of one patient, or a DICOM study."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..dicom.case_list import SeriesSource
from ..dicom.write_seg import DICOM_ENDING, check_can_write_seg, write_seg
from ..errors import ConfigError, InputError
from ..files.images import (
    SEGMENTATION_ENDING,
    WRITTEN_ENDINGS,
    check_grid_for,
    read_volume,
    write_components,
    write_segmentation,
    write_volume,
)
from ..host.address import Host, parse_host
from ..model_folder.choosing import choose_pathway
from ..model_folder.read_write import read_spec
from ..model_folder.spec import ModelSpec
from ..options import SegmentOptions
from ..program import StopRequest, printable, say
from ..result.result import Result
from ..strict_dataclass import to_plain
from ..volume import Volume
from ..worker.outcome import RunProgress
from ..worker.whole_run import segment_on_host, worker_client
from .inputs import check_inputs, check_output, given_sources, show_series
from .outputs import check_outputs, write_json

if TYPE_CHECKING:  # torch is imported when needed
    from ..inference.segmenting import Progress


def segment(given: argparse.Namespace, stop: StopRequest) -> None:
    """Check everything that can be known in advance, then read, segment and write."""
    options = SegmentOptions(given.mirror, given.prepare, given.probabilities is not None)
    if given.brain_mask is not None and not options.prepare:
        raise InputError("--brain-mask is used by --prepare only.")
    host = host_of(given)
    spec = read_spec(given.model)
    check_inputs(given)
    if given.list:
        show_series(given, spec)
        return
    check_output(given)
    sources, files = given_sources(given, spec)
    outputs = [(given.output, (SEGMENTATION_ENDING, *WRITTEN_ENDINGS, *([DICOM_ENDING] if given.dicom else [])))]
    outputs += [(given.probabilities, WRITTEN_ENDINGS), (given.report, (".json",))]
    read = [*files, *given.model.iterdir()]
    if given.brain_mask is not None:
        read.append(given.brain_mask)
    check_outputs([pair for pair in outputs if pair[0] is not None], read)
    pathway, _ = choose_pathway(spec, sources)
    reference = sources[pathway.modalities[0]]
    series = reference if isinstance(reference, SeriesSource) and given.output.name.endswith(DICOM_ENDING) else None
    if series is not None:
        check_can_write_seg(series.stack)
    volumes = {modality: source.read() for modality, source in sources.items()}
    for path in (given.output, given.probabilities):
        if path is not None:
            check_grid_for(path, volumes[pathway.modalities[0]])
    mask = read_volume(given.brain_mask) if given.brain_mask is not None else None
    result = _computed(given, host, volumes, options, mask, stop)
    _write(given, result, series)
    _tell(result, [str(path) for path, _ in outputs if path is not None])


def host_of(given: argparse.Namespace) -> Host | None:
    """The remote host named by `--host`; None for this computer.

    Raises:
        ConfigError: the address is invalid, or `--host-python` is given without it.
    """
    if given.host_python and not given.host:
        raise ConfigError("--host-python is used with --host only.")
    return parse_host(given.host, given.host_python) if given.host else None


def _computed(
    given: argparse.Namespace,
    host: Host | None,
    volumes: dict[str, Volume],
    options: SegmentOptions,
    mask: Volume | None,
    stop: StopRequest,
) -> Result:
    if host is not None:
        with worker_client() as client, _bar() as show:
            return segment_on_host(
                client, host, given.model, volumes, given.device, options, mask, progress=show, cancelled=stop
            )
    from ..inference import load_model
    from ..inference import segment as compute

    model = load_model(given.model, given.device)
    with _bar() as show:
        return compute(model, volumes, options, mask, progress=show, cancelled=stop)


@contextmanager
def _bar() -> Iterator[Callable[[Progress | RunProgress], None]]:
    from tqdm import tqdm

    silent = sys.stderr is None
    with tqdm(total=100, unit="%", leave=False, bar_format="{desc} {bar} {n:.0f}% {elapsed}", disable=silent) as bar:

        def show(progress: Progress | RunProgress) -> None:
            bar.set_description_str(printable(progress.message), refresh=False)
            bar.update(round(100 * progress.fraction, 1) - bar.n)

        yield show


def _write(given: argparse.Namespace, result: Result, series: SeriesSource | None) -> None:
    """Write the requested outputs; `series` is the one that a DICOM segmentation refers to."""
    if series is not None:
        write_seg(given.output, result.masks, result.spec.regions, result.report, series.stack)
    elif given.output.name.endswith(".nrrd"):
        write_segmentation(given.output, result.masks, result.spec.regions, result.reference)
    else:
        write_volume(given.output, result.reference.with_array(result.label_map))
    if result.probabilities is not None:
        write_components(given.probabilities, result.probabilities, result.reference)
    if given.report:
        write_json(given.report, to_plain(result.report))


def _tell(result: Result, written: list[str]) -> None:
    report = result.report
    for note in report.notes:
        say(f"note: {note}")
    for region, found in zip(result.spec.regions, report.findings):
        volumes = f"{found.volume_ml:8.1f} mL ({found.low_ml:.1f} to {found.high_ml:.1f})"
        say(f"{region.id:>4}  {volumes}  {region.name}")
    tell_use(result.spec)
    say(f"{report.total_seconds:.1f} s on {report.device}; wrote {', '.join(written)}")


def tell_use(spec: ModelSpec) -> None:
    """Print what the model is for beside its results: some must not be used on patients at all."""
    if spec.intended_use:
        say(f"use: {spec.intended_use}")
