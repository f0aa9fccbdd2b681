#!/usr/bin/env bash
# Train both presets on slices 0-19 of the ISBI 2012 stack, score them on slices 20-23.
#   benchmarks/isbi2012/run.sh TRAIN.zarr WORK     TRAIN.zarr holds `raw` and `labels` (1 = membrane)
# Existing files are kept: a stopped run resumes. The weights of
# `default` are beside this file; remove them to train them again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$1 work=$2
mkdir -p "$work"
[ ! -f "$here/default.safetensors" ] || cp -n "$here/default.safetensors" "$work/"
for preset in default unet-2015; do
  weights=$work/$preset.safetensors
  [ -f "$weights" ] || overtile train --volume "$data/raw" --labels "$data/labels" \
    --validation-slices 20:24 --config "$here/config.toml" --preset "$preset" --dtype float16 \
    --kept-weights last \
    --out "$weights" --resume
  for tta in none full; do
    out=$work/$preset-$tta
    overtile segment "$data/raw" "$out.zarr" --weights "$weights" --outputs classes,scores --tta "$tta"
    for objects in watershed components; do
      overtile evaluate "$out.zarr" "$data/labels" --scores membrane --objects "$objects" \
        --seed-distance 0 --per-slice --truth-objects 0 --slices 20:24 --json "$out-$objects.json"
    done
  done
done
python "$here/../training_results.py" --weights "$work"/*.safetensors \
  --evaluations "$work"/*.json --out "$here/results.json"
