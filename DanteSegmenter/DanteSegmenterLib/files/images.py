"""Read and write image files as `Volume`, and segmentations for Slicer. SimpleITK and pynrrd, no torch.

Files store LPS directions, everything in memory is RAS; `grid.LPS_TO_RAS` converts the signs.
"""

from __future__ import annotations

import contextlib
import io
import locale
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, ResourceError, reason
from ..guard.atomic import write_atomically
from ..guard.plain_text import LONG, one_line
from ..model_folder.spec import Region
from ..volume import Volume
from .grid import LPS_TO_RAS
from .meta_image import read_meta_image
from .nifti import read_nifti
from .nrrd_file import read_nrrd
from .raw_data import DamageError, HeaderError

READERS = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_meta_image,
    ".mhd": read_meta_image,
}
IMAGE_ENDINGS = tuple(READERS)
# Single-file formats, which can be replaced atomically.
WRITTEN_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
SEGMENTATION_ENDING = ".seg.nrrd"
# dtypes that ITK does not support, and those used instead.
ITK_LACKS = {"bool": np.uint8, "float16": np.float32}


def read_volume(path: Path | str, name: str | None = None, component: int | None = None) -> Volume:
    """Read a NIfTI, NRRD or MetaImage file; anomalies are reported in the volume's notes.

    Args:
        path: the file.
        name: name in messages; by default the file's.
        component: index of a volume in a 4-D file; without it 4-D files are refused.

    Raises:
        InputError: the file does not exist, is not an image, is truncated or damaged, holds no single scalar volume, or
            has an invalid header.
        ResourceError: it does not fit into memory.
    """
    path = Path(path)
    read = _reader(path)
    try:
        array, matrix, notes = read(path, component)
    except DamageError as error:
        raise InputError(f"'{path}' is damaged or cut short ({error}). Copy or download it again.") from None
    except HeaderError as error:
        raise InputError(f"'{path}': {error}. Copy it again, or convert it anew from its source.") from None
    except MemoryError:
        raise ResourceError(f"there is not enough memory to read '{path}'. Close other programs.") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}.") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # unforeseen errors in a header
        raise InputError(f"'{path}' cannot be read as an image: its header is odd ({error}). Convert it.") from None
    called = one_line(name or path.name)
    return Volume(array, matrix, called, tuple(_about(called, note) for note in notes))


def _reader(path: Path) -> Callable[[Path, int | None], tuple[np.ndarray, np.ndarray, list[str]]]:
    """The reader for a file's extension; other formats have readers that do not detect truncated files.

    Raises:
        InputError: the file does not exist, or has another format.
    """
    try:
        if path.is_dir():
            raise InputError(f"'{path}' is a folder; an image file ({', '.join(IMAGE_ENDINGS)}) is needed.")
        if not path.is_file():
            raise InputError(f"'{path}' does not exist. Check the path.")
    except (OSError, ValueError) as error:  # the name is too long or impossible
        raise InputError(f"'{path}' cannot be a file's name ({reason(error)}).") from None
    ending = next((ending for ending in READERS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise InputError(
            f"'{path}': images are read from {', '.join(IMAGE_ENDINGS)} alone, because damage can be told in these. "
            "Save it as one of them, for example with 3D Slicer."
        )
    return READERS[ending]


def _about(name: str, note: str) -> str:
    """Turn a reader's half sentence into a note for the result."""
    warning, text = ("WARNING: ", note.removeprefix("WARNING: ")) if note.startswith("WARNING: ") else ("", note)
    return f"{warning}'{name}': {text}"


def check_grid_for(path: Path | str, grid: Volume) -> None:
    """Refuse a file whose format cannot store this volume's grid.

    Raises:
        InputError: the grid is sheared, and the format is not for segmentations.
    """
    if not str(path).endswith(SEGMENTATION_ENDING):
        _direction(grid)


def _direction(volume: Volume) -> np.ndarray:
    """The axes as unit vectors, 3x3, LPS."""
    lps = LPS_TO_RAS @ volume.ijk_to_ras
    direction = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise InputError(
            f"the grid of '{volume.name}' is sheared, which this file format cannot hold. Resample the volume onto a "
            "grid with perpendicular axes, or save as .seg.nrrd."
        )
    return np.asarray(direction)


def _to_image(volume: Volume) -> sitk.Image:
    lps, direction = LPS_TO_RAS @ volume.ijk_to_ras, _direction(volume)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    known = ITK_LACKS.get(volume.array.dtype.name, volume.array.dtype)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array, known))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def write_volume(path: Path | str, volume: Volume) -> None:
    """Write a compressed volume; the extension determines the format. An existing file is replaced only on success.

    Raises:
        InputError: unknown extension, or the grid does not fit the format.
        ResourceError: the folder is missing, not writable, or there is no space left.
    """
    path = Path(path)
    if not path.name.lower().endswith(WRITTEN_ENDINGS):
        raise InputError(f"'{path.name}': the ending must be one of {', '.join(WRITTEN_ENDINGS)}.")
    image = _to_image(volume)
    write_atomically(path, lambda temporary: _write_whole(image, temporary))


def write_components(path: Path | str, array: np.ndarray, grid: Volume) -> None:
    """Write float [R, K, J, I] on `grid` as one 4-D image, for example the probabilities of all regions."""
    images = [_to_image(grid.with_array(component)) for component in array]
    write_atomically(Path(path), lambda temporary: _write_whole(sitk.JoinSeries(images), temporary))


def _write_whole(image: sitk.Image, path: Path) -> None:
    """Write an image and read it back, because ITK's NIfTI writer does not check whether the system stored the data.

    Raises:
        OSError: the system did not store it.
        RuntimeError: ITK could not write it.
        DamageError: it was not written completely.
    """
    with _utf8_names() if _is_misread(path) else contextlib.nullcontext():
        sitk.WriteImage(image, str(path), useCompression=True)
    written, _, _ = _reader(path)(path, 0)  # reads to the end and verifies the checksum there
    wanted = sitk.GetArrayViewFromImage(image)
    if not np.array_equal(written, wanted[0] if wanted.ndim > 3 else wanted, equal_nan=True):
        raise DamageError("what was written is not what is there")


def _is_misread(path: Path) -> bool:
    """Whether the C library takes ITK's name of a file, which is in UTF-8, for one of another code page.

    On Windows nothing could be written to the folders of somebody called Jürgen (ITK's issues 4388 and 6739).
    """
    return sys.platform == "win32" and not str(path).isascii()


@contextlib.contextmanager
def _utf8_names() -> Iterator[None]:
    """Meanwhile the C library of Windows takes names of files for UTF-8, as it does while its locale says so."""
    before = locale.setlocale(locale.LC_CTYPE)
    with contextlib.suppress(locale.Error):  # a Windows of before 2018
        locale.setlocale(locale.LC_CTYPE, ".UTF8")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def write_segmentation(
    path: Path | str,
    masks: dict[str, np.ndarray],
    regions: Sequence[Region],
    grid: Volume,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write overlapping regions as a Slicer segmentation: one layer per region, with name, colour and terminology.

    Args:
        path: should end in .seg.nrrd, by which Slicer recognises it; plain .nrrd is accepted.
        masks: bool [K, J, I] by region id, on `grid`.
        regions: regions to write, in this order.
        grid: any volume on the masks' grid.
        more: additional header fields, in ASCII.

    Raises:
        InputError: wrong extension.
        ResourceError: as for `write_volume`.
    """
    path = Path(path)
    if not path.name.lower().endswith(".nrrd"):
        raise InputError(f"'{path.name}': a segmentation's file name must end in {SEGMENTATION_ENDING}.")
    lps = LPS_TO_RAS @ grid.ijk_to_ras
    layers = np.stack([masks[region.id].transpose(2, 1, 0) for region in regions]).astype(np.uint8)  # [layer, I, J, K]
    header: dict[str, object] = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.vstack([[np.nan] * 3, lps[:3, :3].T]),
        "space origin": lps[:3, 3],
        "encoding": "gzip",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        **more,
    }
    texts: dict[str, str] = {}
    for n, region in enumerate(regions):
        texts |= _segment_fields(n, region, layers[n])
    write_atomically(path, lambda temporary: temporary.write_bytes(_nrrd_bytes(layers, header, texts)))


def _nrrd_bytes(layers: np.ndarray, header: dict[str, object], texts: dict[str, str]) -> bytes:
    """An NRRD file with key/value pairs in UTF-8, as used by Slicer; pynrrd itself writes only ASCII."""
    import nrrd

    whole = io.BytesIO()
    nrrd.write(whole, layers, header, index_order="F")
    head, _blank, data = whole.getvalue().partition(b"\n\n")
    pairs = [f"{key}:={one_line(text, LONG)}".replace("\\", r"\\") for key, text in texts.items()]
    return b"\n".join([head, *(pair.encode("utf-8") for pair in pairs), b"", data])


def _segment_fields(n: int, region: Region, layer: np.ndarray) -> dict[str, str]:
    """NRRD key/value pairs of segment `n`, with the names used by Slicer's segmentation storage node."""
    extent = []
    for axis in range(3):
        used = np.flatnonzero(layer.any(axis=tuple(a for a in range(3) if a != axis)))
        extent += [int(used[0]), int(used[-1])] if used.size else [0, -1]
    return {
        f"Segment{n}_ID": region.id,
        f"Segment{n}_Name": region.name,
        f"Segment{n}_NameAutoGenerated": "0",
        f"Segment{n}_Color": " ".join(f"{part:g}" for part in region.color),
        f"Segment{n}_ColorAutoGenerated": "0",
        f"Segment{n}_Layer": str(n),
        f"Segment{n}_LabelValue": "1",
        f"Segment{n}_Extent": " ".join(str(bound) for bound in extent),
        f"Segment{n}_Tags": f"TerminologyEntry:{region.terminology.entry()}|",
    }
