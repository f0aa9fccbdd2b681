#!/usr/bin/env bash
#SBATCH --job-name=overtile
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16384M
#SBATCH --time=01:00:00
#SBATCH --output='/home/ada/logs of jobs'/%x-%j.log
#SBATCH --chdir='/home/ada/my volumes'
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@360
#SBATCH --dependency=afterok:4711
#SBATCH --kill-on-invalid-dep=yes

run=(finish 'my in.zarr' s3://bucket/out.zarr --weights demo --block '64,256,256')
output=s3://bucket/out.zarr
python=(/opt/overtile/bin/python)
folder='/home/ada/logs of jobs'
interface=''
gpus=0
workers=1
threads=3
port=0
dashboard=127.0.0.1:8787
tls=auto
spill=''
death_s=30
first_worker_s=600

