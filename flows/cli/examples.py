"""The examples that each help ends with, by command: what each is for, and a line to copy."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "overtile": """
# a small synthetic volume, in a minute
overtile demo
# three places of a volume, as a picture
overtile preview raw.zarr --weights w.safetensors
# a volume
overtile segment raw.zarr out.zarr --weights w.safetensors
""",
    "overtile segment": """
# a volume, on this machine
overtile segment raw.zarr out.zarr --weights w.safetensors
# a folder of slices: classes, and the objects in them
overtile segment 'slices/*.tif' out.zarr --weights w.safetensors --objects
# the first 64 slices
overtile segment raw.zarr part.zarr --weights w.safetensors --box 0:64,:,:
""",
    "overtile finish": """
# after all shares: the arguments of segment, without --shard
overtile finish raw.zarr out.zarr --weights w.safetensors
# with the workers on Slurm
overtile finish raw.zarr out.zarr --weights w.safetensors --cluster slurm
""",
    "overtile plan": """
# blocks, memory, files and operations
overtile plan raw.zarr out.zarr --weights w.safetensors
# also how long a run takes, measured on some of its blocks
overtile plan raw.zarr out.zarr --weights w.safetensors --measure
# finding objects in existing scores
overtile plan scores.zarr objects.zarr --objects --method watershed
""",
    "overtile preview": """
# three places as one picture
overtile preview raw.zarr --weights w.safetensors
# a chosen place
overtile preview raw.zarr --weights w.safetensors --box 8:9,0:256,0:256
""",
    "overtile mask": """
# tissue of a slide, with a picture of it
overtile mask slide.svs tissue.zarr
# bright tissue of a volume, with a margin
overtile mask brain.zarr tissue.zarr --tissue bright --margin 4
""",
    "overtile train": """
# from one labelled volume
overtile train --volume raw.tif --labels ids.tif --out w.safetensors
# from weights that exist
overtile train --volume raw --labels ids --out w.safetensors --from demo
# continue a training that was stopped
overtile train --volume raw.tif --labels ids.tif --out w.safetensors --resume
""",
    "overtile corrections": """
# create segmented.corrections.zarr, or list what is painted in it
overtile corrections segmented.zarr
# write a copy with the painted voxels
overtile corrections segmented.zarr --apply corrected.zarr
""",
    "overtile objects": """
# objects between boundaries, or objects that touch
overtile objects segmented.zarr cells.zarr --method watershed
# connected voxels of a class, without small ones
overtile objects segmented.zarr nuclei.zarr --class nucleus --min-voxels 50
# scores that state no voxel size (z, y, x in µm), or a wrong one
overtile objects segmented.zarr cells.zarr --voxel-size 0.5,0.2,0.2
""",
    "overtile view": """
# a result over the image that it was made from
overtile view segmented.zarr
# the same, on a port that ssh -L forwards
overtile view segmented.zarr --port 8899
# over another image, in napari
overtile view segmented.zarr raw.zarr --napari
""",
    "overtile outlines": """
# in pixels of the labels
overtile outlines cells.zarr cells.geojson
# in pixels of the slide, where a coarser level was segmented
overtile outlines cells.zarr cells.geojson --image slide.svs
""",
    "overtile meshes": """
# two objects, as PLY
overtile meshes neurons.zarr meshes --ids 12,40
# all objects, for Neuroglancer
overtile meshes neurons.zarr meshes --format precomputed
""",
    "overtile convert": """
# a folder of slices
overtile convert 'slices/*.tif' brain.zarr
# cells, for Fiji
overtile convert cells.zarr cells.tif
# labels, for Neuroglancer
overtile convert segmented.zarr labels --to precomputed
""",
    "overtile evaluate": """
# classes against classes
overtile evaluate segmented.zarr truth.zarr
# the scores of a class, at every threshold
overtile evaluate segmented.zarr truth.zarr --scores membrane
# objects against objects
overtile evaluate objects.zarr truth-ids.zarr --objects ids
""",
    "overtile weights": """
# the bundled weights: for which images, size, licence, scores
overtile weights list
# what a file contains
overtile weights demo
# a copy that states the voxel size
overtile weights w.safetensors --voxel-size 50,4,4nm --out w2.safetensors
""",
    "overtile submit": """
# segment in a separate job
overtile submit segment in.zarr out.zarr --weights w.safetensors --cluster hpc
# print the script of that job
overtile submit segment raw.zarr out.zarr --weights w.safetensors --dry-run
# train
overtile submit train --volume raw.tif --labels ids.tif --out w.safetensors
""",
    "overtile submit segment": """
# one job, with the settings of the profile hpc
overtile submit segment in.zarr out.zarr --weights w.safetensors --cluster hpc
# eight shares in parallel, then a job that completes the output
overtile submit segment raw.zarr out.zarr --weights w.safetensors --shard 8
# the script only
overtile submit segment raw.zarr out.zarr --weights w.safetensors --dry-run
""",
    "overtile submit objects": """
# one job, with the settings of the profile hpc
overtile submit objects out.zarr cells.zarr --cluster hpc
# eight shares in parallel
overtile submit objects out.zarr cells.zarr --method watershed --shard 8
""",
    "overtile submit train": """
# one job, with the settings of the profile slurm; the same again resumes
overtile submit train --volume raw.tif --labels ids.tif --out w.safetensors
# on two nodes, one rank per GPU
overtile submit train --volume raw --labels ids --out w.safetensors --nodes 2
# the script only
overtile submit train --volume raw --labels ids --out w.safetensors --dry-run
""",
    "overtile status": """
# progress as text
overtile status segmented.zarr
# of a training, by its weights
overtile status membranes.safetensors
# as JSON
overtile status s3://bucket/segmented.zarr --json
""",
    "overtile verify": """
# every file, and nothing is changed
overtile verify segmented.zarr
# also mark what is damaged, so that the same command computes it again
overtile verify segmented.zarr --repair
# as JSON
overtile verify s3://bucket/segmented.zarr --json
""",
    "overtile cluster": """
# start a cluster with the settings of the profile hpc
overtile cluster start hpc
# show its workers and their tasks
overtile cluster status hpc
# stop it
overtile cluster stop hpc
""",
    "overtile cluster start": """
# with the settings of the profile hpc
overtile cluster start hpc
# with another name than its profile or kind
overtile cluster start night --cluster slurm
""",
    "overtile cluster status": """
# all started clusters
overtile cluster status
# one cluster, as JSON
overtile cluster status hpc --json
""",
    "overtile cluster stop": """
# list the started clusters
overtile cluster status
# stop it
overtile cluster stop hpc
""",
    "overtile preflight": """
# a run on Slurm
overtile preflight raw.zarr out.zarr --weights w.safetensors --cluster slurm
# the cluster alone
overtile preflight --cluster slurm
""",
    "overtile prefect": """
# start what is missing
overtile prefect up
# show what is running
overtile prefect status
# stop server and worker
overtile prefect down
""",
    "overtile prefect up": """
# start what is missing
overtile prefect up
# also the names of earlier versions, such as segment-volume/local
overtile prefect up --old-names
# show what is running
overtile prefect status
""",
    "overtile prefect status": """
# show what is running
overtile prefect status
# start what is missing
overtile prefect up
""",
    "overtile prefect env": """
# prefect commands in this terminal, in any folder
eval "$(overtile prefect env)"
# the password for the browser
overtile prefect env | grep AUTH
""",
    "overtile prefect down": """
# stop server and worker, unless flow runs are active
overtile prefect down
# also cancel active flow runs
overtile prefect down --cancel
""",
    "overtile completion": """
# bash
overtile completion bash > ~/.local/share/bash-completion/completions/overtile
# zsh, with fpath=(~/.zfunc $fpath) in ~/.zshrc
overtile completion zsh > ~/.zfunc/_overtile
# fish
overtile completion fish > ~/.config/fish/completions/overtile.fish
""",
    "overtile demo": """
# into the folder overtile-demo
overtile demo
# into another folder
overtile demo --directory try-overtile
""",
}
