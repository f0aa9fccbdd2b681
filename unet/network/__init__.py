"""The U-Net as integers and as a torch module."""
