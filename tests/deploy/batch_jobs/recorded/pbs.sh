#!/usr/bin/env bash

#PBS -N overtile
#PBS -q gpu
#PBS -A p123
#PBS -l select=1:ncpus=8:mem=16384mb:ngpus=2
#PBS -l walltime=01:00:00
#PBS -S /bin/bash
#PBS -j oe
#PBS -o '/home/ada/logs of jobs'/
ulimit -c 0
export OVERTILE_JOB_ENDS_AT=$(($(date +%s) + 3600))
export PYTHONSAFEPATH=1
export OMP_NUM_THREADS=4
export MKL_NUM_THREADS=4
export DASK_DISTRIBUTED__WORKER__DAEMON=False
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False
export MALLOC_TRIM_THRESHOLD_=1000000000000
export MALLOC_MMAP_MAX_=0
export MALLOC_ARENA_MAX=1
export OVERTILE_DRAIN_S=360
export OVERTILE_CLOSE_S=5
export OVERTILE_NEEDS_GPU=1
/opt/overtile/bin/python -m dask_cuda.cli --device-memory-limit 0 tcp://10.0.0.1:8786 --name overtile-abcdef-1 --nthreads 3 --memory-limit 7168MiB --death-timeout 30 --resources device=3 --preload deploy.clusters.steady_clock --preload deploy.batch_jobs.drain --no-dashboard --dashboard-address 127.0.0.1:0
