# The api: FastAPI and the ledger, no torch. `docker build -f docker/api.Dockerfile .` from the root of the checkout.
FROM python:3.11.14-slim-bookworm

# A number, so that a volume has the same owner in every image and Kubernetes can see that it is not root.
RUN useradd --no-log-init --uid 10001 --create-home errata && install -d -o errata -g errata /data

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY editor_core editor_core
COPY service service
COPY migrations migrations
RUN pip install --no-cache-dir -c constraints.txt .

ENV PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
EXPOSE 8321
STOPSIGNAL SIGTERM
# /livez and not /readyz: an api whose database is away must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/livez', timeout=2)"]
CMD ["errata", "api"]
