#!/usr/bin/env bash

#SBATCH --job-name=overtile
#SBATCH --gres=gpu:a100:1
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16384M
#SBATCH --time=01:00:00
#SBATCH --output='/home/ada/logs of jobs'/%x-%j.log
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
apptainer exec --nv '/images/overtile 1.sif' python -m dask_cuda.cli --device-memory-limit 0 tcp://10.0.0.1:8786 --name overtile-abcdef-1 --nthreads 3 --memory-limit 14336MiB --death-timeout 30 --resources device=3 --preload deploy.clusters.steady_clock --preload deploy.batch_jobs.drain --no-dashboard --dashboard-address 127.0.0.1:0
