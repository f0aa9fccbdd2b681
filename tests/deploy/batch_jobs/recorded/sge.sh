#!/usr/bin/env bash

#$ -N overtile
#$ -q all.q
#$ -l h_rt=01:00:00
#$ -cwd
#$ -j y
#$ -S /bin/bash
#$ -o '/home/ada/logs of jobs'/
#$ -pe mpi 4
#$ -l a=4G
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
/opt/overtile/bin/python -m distributed.cli.dask_worker --nworkers 1 --nanny tcp://10.0.0.1:8786 --name overtile-abcdef-1 --nthreads 3 --memory-limit 14336MiB --death-timeout 30 --resources device=3 --preload deploy.clusters.steady_clock --preload deploy.batch_jobs.drain --no-dashboard --dashboard-address 127.0.0.1:0
