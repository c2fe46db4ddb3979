# Two stages: the first builds and can run every test (docker build --target build, then sh tests/run in it),
# the second holds the two programs and the libraries that they load.
FROM debian:bookworm-slim AS build
WORKDIR /src
# The packages first: they change less often than the source.
COPY deploy/packages deploy/install-packages deploy/
RUN sh deploy/install-packages build test && rm -rf /var/lib/apt/lists/*
COPY . .
RUN make -j"$(nproc)" && install -D -s -t /out build/embsumd build/embsum

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="EmbSum scoring service" \
      org.opencontainers.image.description="embsumd ranks candidates for users over HTTP; embsum prepares what it ranks with" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
COPY deploy/packages deploy/install-packages /tmp/deploy/
RUN sh /tmp/deploy/install-packages run && rm -rf /var/lib/apt/lists/* /tmp/deploy && \
    useradd --system --uid 10001 --user-group --home-dir /var/lib/embsum --create-home --shell /usr/sbin/nologin embsum
COPY --from=build /out/ /usr/local/bin/
COPY --chmod=755 deploy/healthcheck /usr/local/bin/embsum-healthcheck
COPY config/embsum.json /etc/embsum/embsum.json
COPY config/prompts/ /etc/embsum/prompts/

# Inside a container the loopback address would be seen by nobody. Beyond it the daemon wants to know who may ask:
# EMBSUM_SERVER_TOKEN_FILE names a mounted file, or EMBSUM_SERVER_ALLOW_ANONYMOUS=true leaves it to the network.
ENV EMBSUM_SERVER_LISTEN=0.0.0.0:8080
USER 10001:10001
WORKDIR /var/lib/embsum
VOLUME /var/lib/embsum
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["embsum-healthcheck"]
CMD ["embsumd", "--config", "/etc/embsum/embsum.json"]
