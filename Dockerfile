# overtile for the CPU, or for NVIDIA GPUs:
#   docker build -t overtile .
#   docker build -t overtile:cuda --build-arg DEVICE=cuda .      (cuda12 for drivers before CUDA 13)
# PyTorch's wheels for CUDA bring CUDA along: the base image needs none, the host its driver and
# nvidia-container-toolkit.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

ARG DEVICE=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONSAFEPATH=1 DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY overtile overtile
COPY pipeline pipeline
COPY unet unet
COPY flows flows
COPY deploy deploy
RUN case "$DEVICE" in \
      cpu) pip install --index-url "$TORCH_CPU_INDEX" "torch>=2.9" && pip install ".[fast]" ;; \
      cuda | cuda12) pip install ".[$DEVICE,fast]" ;; \
      *) echo "DEVICE is cpu, cuda or cuda12, not $DEVICE" >&2; exit 2 ;; \
    esac

RUN useradd --create-home --uid 1000 overtile
USER overtile
WORKDIR /home/overtile
CMD ["overtile", "--help"]
