"""Any callable as the ranks of torch.distributed, on Dask workers."""
