"""Image files <-> `Volume`, and segmentations as Slicer and others read them. SimpleITK and pynrrd, no torch.

Files store LPS directions; everything inside is RAS, and the change of sign happens here and nowhere else.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import SimpleITK as sitk

from ..errors import DanteError, InputError, ResourceError
from ..guard.plain_text import LONG, one_line
from ..model_folder.spec import Region
from ..volume import Volume
from .nifti_header import check_nifti

IMAGE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
SEGMENTATION_ENDING = ".seg.nrrd"
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_volume(path: Path | str, name: str | None = None, component: int | None = None) -> Volume:
    """Read a NIfTI, NRRD or MetaImage file.

    Args:
        path: the file.
        name: what to call it in messages; the file's name by default.
        component: which volume of a 4-D file; without it 4-D is refused.

    Raises:
        InputError: there is no such file, it is no image, is cut short, or holds no single scalar volume.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; an image file ({', '.join(IMAGE_ENDINGS)}) is needed.")
    if not path.is_file():
        raise InputError(f"'{path}' does not exist. Check the path.")
    if path.name.lower().endswith((".nii", ".nii.gz")):
        check_nifti(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_header(reader, path, component)
        image = reader.Execute()
    except DanteError:
        raise
    except Exception as error:  # SimpleITK raises RuntimeError for everything; its last line is the reason
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise InputError(
            f"'{path}' cannot be read as an image; it may be cut short or not an image at all. Copy it again, or "
            f"convert it to {', '.join(IMAGE_ENDINGS)}. ({reason})"
        ) from None
    if image.GetDimension() == 4:
        image = image[:, :, :, component]
    return Volume(sitk.GetArrayFromImage(image), _ijk_to_ras(image), name or path.name)


def _check_header(reader: sitk.ImageFileReader, path: Path, component: int | None) -> None:
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"'{path}' has {reader.GetNumberOfComponents()} values per voxel (a colour or vector image); a scalar "
            "volume is needed. Convert it to grey values first."
        )
    if len(size) == 4 and component is not None:
        if not 0 <= component < size[3]:
            raise InputError(f"'{path}' holds {size[3]} volumes; number {component} does not exist.")
        return
    if len(size) != 3:
        raise InputError(
            f"'{path}' has {len(size)} dimensions, size {size}; a single three-dimensional volume is needed. Extract "
            "one volume of a series."
        )


def _ijk_to_ras(image: sitk.Image) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return _LPS @ matrix


def check_grid_for(path: Path | str, grid: Volume) -> None:
    """Refuse a file whose format cannot hold this volume's grid.

    Raises:
        InputError: the grid is sheared, and the format is none of segmentations.
    """
    if not str(path).endswith(SEGMENTATION_ENDING):
        _direction(grid)


def _direction(volume: Volume) -> np.ndarray:
    """The axes as unit vectors, 3x3, LPS."""
    lps = _LPS @ volume.ijk_to_ras
    direction = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise InputError(
            f"the grid of '{volume.name}' is sheared, which this file format cannot hold. Resample the volume onto a "
            "grid with perpendicular axes, or save as .seg.nrrd."
        )
    return np.asarray(direction)


def _to_image(volume: Volume) -> sitk.Image:
    lps, direction = _LPS @ volume.ijk_to_ras, _direction(volume)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def write_volume(path: Path | str, volume: Volume) -> None:
    """Write a volume; the ending chooses the format. Compressed; replaces an existing file only when complete.

    Raises:
        InputError: unknown ending, or the grid does not fit the format.
        ResourceError: the folder is missing, not writable, or there is no space left.
    """
    path = Path(path)
    if not path.name.lower().endswith(IMAGE_ENDINGS):
        raise InputError(f"'{path.name}': the ending must be one of {', '.join(IMAGE_ENDINGS)}.")
    image = _to_image(volume)
    write_atomically(path, lambda temporary: sitk.WriteImage(image, str(temporary), useCompression=True))


def write_components(path: Path | str, array: np.ndarray, grid: Volume) -> None:
    """Write float [R, K, J, I] on `grid` as one 4-D image, for example the probabilities of all regions."""
    images = [_to_image(grid.with_array(component)) for component in array]
    write_atomically(Path(path), lambda temporary: sitk.WriteImage(sitk.JoinSeries(images), str(temporary), True))


def write_segmentation(
    path: Path | str,
    masks: dict[str, np.ndarray],
    regions: Sequence[Region],
    grid: Volume,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write overlapping regions as a Slicer segmentation: one layer a region, with name, colour and terminology.

    Args:
        path: ends in .seg.nrrd, by which Slicer knows it; plain .nrrd is accepted.
        masks: bool [K, J, I] by region id, on `grid`.
        regions: what is written, in this order.
        grid: any volume on the masks' grid.
        more: further fields of the header, in ASCII.

    Raises:
        InputError: wrong ending. ResourceError: as `write_volume`.
    """
    path = Path(path)
    if not path.name.lower().endswith(".nrrd"):
        raise InputError(f"'{path.name}': a segmentation's file name must end in {SEGMENTATION_ENDING}.")
    lps = _LPS @ grid.ijk_to_ras
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
    """An NRRD file with key/value pairs in UTF-8, as Slicer writes and reads them; pynrrd itself writes ASCII alone."""
    import nrrd

    whole = io.BytesIO()
    nrrd.write(whole, layers, header, index_order="F")
    head, _blank, data = whole.getvalue().partition(b"\n\n")
    pairs = [f"{key}:={one_line(text, LONG)}".replace("\\", r"\\") for key, text in texts.items()]
    return b"\n".join([head, *(pair.encode("utf-8") for pair in pairs), b"", data])


def _segment_fields(n: int, region: Region, layer: np.ndarray) -> dict[str, str]:
    """NRRD key/value pairs of segment `n`, as Slicer's segmentation storage node names them."""
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


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path` and move the result into place: all or nothing.

    Raises:
        ResourceError: the folder does not exist, is not writable, or the disk is full.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ResourceError(f"the folder '{path.parent}' does not exist. Create it or choose another.")
    try:
        folder = tempfile.mkdtemp(prefix=".dante-", dir=path.parent)
    except OSError as error:
        raise ResourceError(f"cannot write to '{path.parent}': {error.strerror}.") from None
    # The same name in a folder of its own: writers choose the format by the ending.
    temporary = Path(folder) / path.name
    try:
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
    except DanteError:
        raise
    except Exception as error:
        reason = _no_space(error, path) or str(error).strip().splitlines()[-1:] or type(error).__name__
        reason = reason if isinstance(reason, str) else reason[0]
        raise ResourceError(f"'{path}' could not be written: {reason}. Nothing was changed.") from error
    finally:
        temporary.unlink(missing_ok=True)
        os.rmdir(folder)


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _no_space(error: Exception, path: Path) -> str | None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the disk"
    stat = os.statvfs(path.parent) if hasattr(os, "statvfs") else None  # ITK reports a full disk as a plain failure
    return "no space left on the disk" if stat and stat.f_bavail * stat.f_frsize < 1 << 16 else None
