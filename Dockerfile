# The image of kepler-ebpf.
#   docker build -t kepler-ebpf .                       compiled programs, no compiler (the default)
#   docker build -t kepler-ebpf:bcc --target bcc .      also bcc, for nodes whose kernel has no BTF
# Build and final stages must be of one release: the environment is tied to its Python.
ARG DEBIAN=debian:13-slim

FROM ${DEBIAN} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        clang llvm libbpf-dev linux-libc-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY bpf bpf
COPY scripts scripts
COPY kepler_ebpf kepler_ebpf
# Building the wheel compiles the BPF programs and packs them in. pip itself stays behind.
RUN python3 -m venv /opt/build /opt/kepler-ebpf \
    && /opt/build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /tmp/wheel . \
    && wheel=$(echo /tmp/wheel/kepler_ebpf-*.whl) \
    && /opt/kepler-ebpf/bin/pip install --no-cache-dir "$wheel[kubernetes]" \
    && /opt/kepler-ebpf/bin/pip uninstall --yes pip

FROM ${DEBIAN} AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends libbpf1 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/kepler-ebpf /opt/kepler-ebpf
# The root file system may be read-only: nothing writes to it, bytecode was compiled by pip.
# numpy would start a thread for each CPU of the node for algebra that is never done here.
ENV PATH=/opt/kepler-ebpf/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    OPENBLAS_NUM_THREADS=1
# User 0, since capabilities reach no other user of an image. Which ones is the manifest's choice.
USER 0:0
EXPOSE 28282
STOPSIGNAL SIGTERM
# Not a scrape: /healthz costs nothing. Kubernetes has probes of its own and ignores this.
HEALTHCHECK --interval=60s --timeout=5s --start-period=10s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:28282/healthz', timeout=3)"]
ENTRYPOINT ["kepler-ebpf"]
CMD ["run"]

FROM base AS bcc
# bcc brings its own compiler (libclang); it compiles at start, in a temporary folder under /tmp.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-bpfcc \
    && rm -rf /var/lib/apt/lists/*
CMD ["run", "--bpf-loader=bcc"]

# The last stage is what is built when none is named.
FROM base AS core
