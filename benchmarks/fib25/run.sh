#!/usr/bin/env bash
# Train the bundled `fib25-boundary` on slices 0-151 of the FIB-25 sample, score it on 152-183.
#   benchmarks/fib25/run.sh TRAIN.zarr WORK        TRAIN.zarr holds `raw` and `labels` (instance ids)
# Existing files are kept: a stopped run resumes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$1 work=$2
weights=$here/../../unet/bundled/fib25-boundary.safetensors
mkdir -p "$work"
if [ ! -f "$weights" ]; then
  overtile train --volume "$data/raw" --labels "$data/labels" --validation-slices 152:184 \
    --config "$here/config.toml" --dtype float16 --kept-weights last \
    --out "$work/fib25-boundary.safetensors" --resume
  cp "$work/fib25-boundary.safetensors" "$weights"
fi
for tta in none full; do
  out=$work/fib25-$tta
  overtile segment "$data/raw" "$out.zarr" --weights "$weights" --outputs classes,scores --tta "$tta"
  for distance in 2 0; do
    overtile evaluate "$out.zarr" "$data/labels" --scores boundary --objects watershed \
      --seed-distance "$distance" --slices 152:184 --thresholds 0.2:0.95:0.15 \
      --json "$out-seeds-$distance.json"
  done
done
python "$here/../training_results.py" --weights "$weights" --evaluations "$work"/*.json \
  --out "$here/results.json"
