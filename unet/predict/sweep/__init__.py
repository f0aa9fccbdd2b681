"""A U-Net over a deep tile, a few planes at a time: no voxel is computed twice along z."""
