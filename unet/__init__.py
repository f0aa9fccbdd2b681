"""The U-Net of Ronneberger, Fischer and Brox (2015), in 2-D and 3-D.

Names are loaded when they are first used: reading a weights file's header needs no torch.
"""
