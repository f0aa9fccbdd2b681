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
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY overtile overtile
COPY pipeline pipeline
COPY unet unet
COPY flows flows
COPY deploy deploy
# PyTorch's index lacks the tested versions of torch's dependencies; the line after it installs them.
# CUDA 12 needs an older torch, and bindings of its own.
RUN case "$DEVICE" in \
      cpu) pip install --no-deps --index-url "$TORCH_CPU_INDEX" "$(grep '^torch==' constraints.txt)" && \
        pip install -c constraints.txt ".[fast]" ;; \
      cuda) pip install -c constraints.txt ".[cuda,fast]" ;; \
      cuda12) sed -i -E '/^(torch|cuda-bindings)==/d' constraints.txt && \
        pip install -c constraints.txt ".[cuda12,fast]" ;; \
      *) echo "DEVICE is cpu, cuda or cuda12, not $DEVICE" >&2; exit 2 ;; \
    esac

RUN useradd --create-home --uid 1000 overtile
USER overtile
WORKDIR /home/overtile
CMD ["overtile", "--help"]
