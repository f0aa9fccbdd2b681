#!/usr/bin/env bash

#BSUB -J overtile
#BSUB -q gpu
#BSUB -P p123
#BSUB -n 4
#BSUB -R "span[hosts=1]"
#BSUB -M 16777216
#BSUB -W 01:31
#BSUB -o '/home/ada/logs of jobs'/overtile-%J.log
#BSUB -gpu "num=2"
ulimit -c 0
export OVERTILE_JOB_ENDS_AT=$(($(date +%s) + 5430))
export PYTHONSAFEPATH=1
export OMP_NUM_THREADS=2
export MKL_NUM_THREADS=2
export DASK_DISTRIBUTED__WORKER__DAEMON=False
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False
export MALLOC_TRIM_THRESHOLD_=1000000000000
export MALLOC_MMAP_MAX_=0
export MALLOC_ARENA_MAX=1
export OVERTILE_DRAIN_S=543
export OVERTILE_CLOSE_S=5
export OVERTILE_NEEDS_GPU=1
/opt/overtile/bin/python -m dask_cuda.cli --device-memory-limit 0 tcp://10.0.0.1:8786 --name overtile-abcdef-1 --nthreads 3 --memory-limit 7168MiB --death-timeout 30 --resources device=3 --preload deploy.clusters.steady_clock --preload deploy.batch_jobs.drain --no-dashboard --dashboard-address 127.0.0.1:0
