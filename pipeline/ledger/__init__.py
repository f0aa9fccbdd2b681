"""Which blocks are done, under which job, and who may write."""
