"""The image that is read: found, opened, normalised, mirrored past its edge."""
