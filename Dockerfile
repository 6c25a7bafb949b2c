# The image of kepler-ebpf.
#   docker build -t kepler-ebpf .                       compiled programs, no compiler (the default)
#   docker build -t kepler-ebpf:bcc --target bcc .      also bcc, for nodes whose kernel has no BTF
#   docker build --target sbom --output . .             sbom.json: the Python packages in both
# Build and final stages must be of one release: the environment is tied to its Python. For a base
# that never changes, give its digest: --build-arg DEBIAN=debian:13-slim@sha256:...
ARG DEBIAN=debian:13-slim

FROM ${DEBIAN} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        clang llvm libbpf-dev linux-libc-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Only what is locked, each file by its hash; none is built here from a source that is not.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all:
COPY requirements requirements
COPY scripts/prune-venv scripts/
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/kepler-ebpf \
    && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
    && /opt/build/bin/pip --python /opt/kepler-ebpf/bin/python \
        install --no-compile --require-hashes -r requirements/run.txt \
    && scripts/prune-venv /opt/kepler-ebpf /opt/build/bin/pip
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY bpf bpf
COPY scripts scripts
COPY kepler_ebpf kepler_ebpf
# For kepler_build_info, since there is no repository here: --build-arg REVISION="$(git rev-parse HEAD)"
ARG REVISION
ARG BRANCH
# Building the wheel compiles the BPF programs and packs them in.
RUN KEPLER_EBPF_REVISION="${REVISION}" KEPLER_EBPF_BRANCH="${BRANCH}" \
        /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheel . \
    && /opt/build/bin/pip --python /opt/kepler-ebpf/bin/python \
        install --no-index --no-deps --root /installed /wheel/*.whl

FROM build AS listed
RUN /opt/build/bin/pip install --require-hashes -r requirements/sbom.txt \
    && cp -r /installed/. / \
    && /opt/build/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.json \
        /opt/kepler-ebpf/bin/python

FROM scratch AS sbom
COPY --from=listed /sbom.json /

FROM ${DEBIAN} AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends libbpf1 python3 \
    && rm -rf /var/lib/apt/lists/*
# Two layers: the dependencies are large, and stay as they are while the lock does.
COPY --from=build /opt/kepler-ebpf /opt/kepler-ebpf
COPY --from=build /installed /
# The root file system may be read-only: nothing writes to it, bytecode was compiled in the build.
# numpy would start a thread for each CPU of the node for algebra that is never done here.
ENV PATH=/opt/kepler-ebpf/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    OPENBLAS_NUM_THREADS=1
ARG DEBIAN
ARG REVISION
LABEL org.opencontainers.image.title="kepler-ebpf" \
      org.opencontainers.image.description="Energy of every process, container, VM and pod" \
      org.opencontainers.image.licenses="Apache-2.0 AND (BSD-2-Clause OR GPL-2.0-only)" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${DEBIAN}"
# User 0, since capabilities reach no other user of an image. Which ones is the manifest's choice.
USER 0:0
EXPOSE 28282
STOPSIGNAL SIGTERM
# No HEALTHCHECK: only who starts it knows the port. compose.yaml has one, Kubernetes its probes.
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
