#!/usr/bin/env bash
#SBATCH --job-name='fly brain'
#SBATCH --partition=gpu
#SBATCH --account=p123
#SBATCH --qos=long
#SBATCH --gres=gpu:a100:4
#SBATCH --constraint='a100|h100'
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=204800M
#SBATCH --time=36:00:00
#SBATCH --output='/home/ada/logs of jobs'/%x-%j.log
#SBATCH --chdir='/home/ada/my volumes'
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@900
#SBATCH --exclusive
#SBATCH --mail-type=FAIL

run=(segment 'my in.zarr' s3://bucket/out.zarr --weights demo --block '64,256,256')
output=s3://bucket/out.zarr
python=(apptainer exec --nv '/images/overtile 1.sif' python)
folder='/home/ada/logs of jobs'
interface=ib0
gpus=4
workers=4
threads=4
port=8786
dashboard=127.0.0.1:8787
tls=auto
spill="$TMPDIR/dask"
death_s=30
first_worker_s=1800
module load cuda/12.8 || exit 1
module load 'my modules/overtile' || exit 1
ulimit -n 65536
export CACHE="$TMPDIR/cache"

