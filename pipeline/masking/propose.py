"""``propose_mask``: a tissue mask of a volume, computed and, if wanted, written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.errors import OutputError, VolumeError
from ..base.versions import VERSION
from ..output.guard import check_output, delete_output
from ..output.image_spec import Channel, ImageSpec
from ..output.whole_image import store_whole_image
from ..report.pictures import Rgb
from ..volume.micrometres import voxel_size_um
from ..volume.volume import VolumeSource, find_volume
from .clean import cleaned
from .coarse import CoarseImage, coarse_image
from .picture import mask_picture
from .request import MaskRequest
from .tissue import Tissued, find_tissue

_CHUNK = (16, 256, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedMask:
    """A mask (z, y, x), True inside, and how it was found."""

    request: MaskRequest
    source: VolumeSource
    image: CoarseImage
    found: Tissued
    mask_zyx: NDArray[np.bool_]

    @property
    def kept(self) -> float:
        """Share of the volume that is inside."""
        return float(self.mask_zyx.mean())

    def picture(self) -> Rgb:
        """Return the picture to look at."""
        um = voxel_size_um(self.source)[2]
        um_per_voxel = None if um is None else um * self.image.factor[2]
        return mask_picture(self.image, self.found, self.mask_zyx, um_per_voxel=um_per_voxel)


def propose_mask(request: MaskRequest) -> ProposedMask:
    """Return a mask of the tissue in a volume. Writes nothing.

    Raises kinds of OvertileError: for an input that cannot be read or has no tissue, and for an
    output that exists.
    """
    _check_output(request)
    source = find_volume(
        request.input, level=request.level, channel=request.channel, time=request.time,
        axes=request.axes,
    )  # fmt: skip
    image = coarse_image(source, is_level_chosen=request.level is not None)
    found = find_tissue(image, tissue=request.tissue, method=request.method)
    mask = cleaned(
        found.mask_zyx, image.voxel_size, closing=request.closing, smallest=request.smallest,
        margin=request.margin,
    )  # fmt: skip
    if not mask.any():
        raise VolumeError(
            f"nothing is left of the mask (tissue {found.text}, specks below {request.smallest} "
            "voxels removed): use another --tissue or --method, or a lower --smallest"
        )
    return ProposedMask(request=request, source=source, image=image, found=found, mask_zyx=mask)


def write_mask(proposed: ProposedMask) -> None:
    """Write the mask as OME-Zarr of one level: uint8, 1 inside, 0 outside. Raises OutputError.

    A part of a mask is not an image for readers, because its missing chunks would mean "outside".
    """
    request = proposed.request
    if _check_output(request):
        delete_output(request.output)
    spec = _spec(proposed)
    stored = proposed.mask_zyx.astype(np.uint8)
    made = {
        "overtile": VERSION,
        "input": str(proposed.source.location),
        "looked_at": proposed.image.where,
        "tissue": proposed.found.text,
        "method": request.method,
        "closing": request.closing,
        "smallest": request.smallest,
        "margin": request.margin,
        "kept": proposed.kept,
    }
    store_whole_image(
        request.output, spec, stored if "z" in spec.axes else stored[0], attributes={"mask": made}
    )


def _check_output(request: MaskRequest) -> bool:
    """Return whether something must be deleted first. Raises OutputError."""
    exists = check_output(request.output, source=request.input, overwrite=True) != "absent"
    if exists and not request.overwrite:
        raise OutputError(
            f"{request.output} exists: choose another output, or replace it with --overwrite"
        )
    return exists


def _spec(proposed: ProposedMask) -> ImageSpec:
    axes, image = proposed.source.spatial_axes, proposed.image
    first = 3 - len(axes)
    shape = proposed.mask_zyx.shape[first:]
    chunk = tuple(min(n, c) for n, c in zip(shape, _CHUNK[first:], strict=True))
    return ImageSpec(
        name="mask",
        is_label=False,
        path="",
        axes=axes,
        dtype="uint8",
        class_names=(),
        shapes=(shape,),
        shards=(chunk,),
        chunks=(chunk,),
        voxel_sizes=(tuple(np.multiply(image.voxel_size, image.direction).tolist()),),
        translations=(image.translation,),
        unit=proposed.source.unit,
        channels=(Channel(name="tissue", colour=(255, 255, 255), low=0.0, high=1.0),),
    )
