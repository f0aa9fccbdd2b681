"""What a file is that no reader takes, and what to do with it."""

from __future__ import annotations

from typing import Final

from ....base.location import Location

_VENDOR: Final = {
    ".czi": "a Zeiss CZI file", ".lif": "a Leica LIF file", ".lof": "a Leica LOF file",
    ".nd2": "a Nikon ND2 file", ".oib": "an Olympus OIB file", ".oif": "an Olympus OIF file",
    ".vsi": "an Olympus VSI slide", ".ims": "an Imaris file", ".dv": "a DeltaVision file",
    ".mrxs": "a MIRAX slide", ".isyntax": "a Philips iSyntax slide", ".h5": "an HDF5 file",
    ".hdf5": "an HDF5 file", ".hdf": "an HDF5 file", ".xml": "an XML file", ".mrc": "an MRC file",
    ".nrrd": "an NRRD file", ".nii": "a NIfTI file", ".gz": "a compressed file",
    ".jpg": "a JPEG picture", ".jpeg": "a JPEG picture", ".jp2": "a JPEG 2000 picture",
    ".bmp": "a BMP picture", ".dm3": "a Gatan DM3 file", ".dm4": "a Gatan DM4 file",
    ".dcm": "a DICOM file", ".raw": "a file of raw bytes", ".npy": "a NumPy array",
    ".zip": "a ZIP archive",
}  # fmt: skip


def unsupported_text(file: Location) -> str:
    """Return one line for a file in a format that overtile does not read."""
    suffix = f".{file.name.lower().rpartition('.')[2]}"
    if suffix == ".zip":
        return f"{file} is a ZIP archive: unpack it first; overtile reads Zarr in folders"
    if kind := _VENDOR.get(suffix):
        return (
            f"{file} is {kind}, which overtile does not read: convert it to OME-TIFF or OME-Zarr, "
            "e.g. with Fiji or bioformats2raw"
        )
    return (
        f"{file} is not an image that overtile reads: expected OME-Zarr, TIFF (OME, ImageJ, "
        "slides), or a folder of TIFF or PNG slices"
    )
