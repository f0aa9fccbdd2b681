"""What a viewer shows of an output, and the output's arrays as it reads them."""
