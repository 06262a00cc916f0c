# docker build --tag nextopen .
# docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" nextopen walkforward --symbol BTCUSDT
# What it makes (reports/, data/cache) lies in the folder where it was started.
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY commands commands
COPY data data
COPY lab lab
COPY nas nas
COPY reports reports
COPY strategies strategies
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . && cp constraints.txt /wheel/

FROM python:3.11-slim
RUN --mount=type=bind,from=build,source=/wheel,target=/wheel \
    pip install --no-cache-dir --constraint /wheel/constraints.txt /wheel/*.whl
# anybody may write the cache: the one who starts the container is a user of the host
ENV HOME=/home/trader XDG_CACHE_HOME=/cache PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 1000 --home-dir /home/trader --create-home trader && mkdir --mode 1777 /cache && mkdir --mode 1777 /work
USER trader
WORKDIR /work
# compiled once, here: every run starts at once
RUN nextopen doctor --compile && rm -rf data && chmod -R a+rwX /cache
ENTRYPOINT ["nextopen"]
CMD ["--help"]
