"""Conversion: any image to OME-Zarr, block by block on the cluster, with the ledger of a run."""
