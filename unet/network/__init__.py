"""The U-Net: its configuration, its costs and the torch module."""
