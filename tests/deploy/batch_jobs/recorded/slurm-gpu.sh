#!/usr/bin/env bash

#SBATCH --job-name=overtile
#SBATCH --partition=gpu
#SBATCH --account=p123
#SBATCH --qos=long
#SBATCH --gres=gpu:4
#SBATCH --constraint='a100|h100'
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=204800M
#SBATCH --time=36:00:00
#SBATCH --output='/home/ada/logs of jobs'/%x-%j.log
#SBATCH --exclusive
#SBATCH --mail-type=FAIL
ulimit -c 0
export OVERTILE_JOB_ENDS_AT=$(($(date +%s) + 129600))
module load cuda/12.8 || exit 1
export PYTHONSAFEPATH=1
export OMP_NUM_THREADS=1
export MKL_NUM_THREADS=1
export DASK_DISTRIBUTED__WORKER__DAEMON=False
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False
export MALLOC_TRIM_THRESHOLD_=1000000000000
export MALLOC_MMAP_MAX_=0
export MALLOC_ARENA_MAX=1
export OVERTILE_DRAIN_S=600
export OVERTILE_CLOSE_S=5
export OVERTILE_NEEDS_GPU=1
ulimit -n 65536
/opt/overtile/bin/python -m dask_cuda.cli --device-memory-limit 0 tcp://10.0.0.1:8786 --name overtile-abcdef-1 --nthreads 3 --memory-limit 44800MiB --death-timeout 30 --resources device=3 --preload deploy.clusters.steady_clock --preload deploy.batch_jobs.drain --no-dashboard --dashboard-address 127.0.0.1:0 --interface ib0 --local-directory "$TMPDIR/dask"
