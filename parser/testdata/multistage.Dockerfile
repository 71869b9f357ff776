# syntax=docker/dockerfile:1

ARG GO_VERSION=1.26
ARG BASE="alpine:3"

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-alpine AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/root/.cache/go-build \
    --mount=type=cache,id=mod,target=/go/pkg/mod,sharing=locked \
    # the modules first
    go mod download
COPY --link . .
RUN --mount=type=bind,target=. --mount=type=secret,id=token,env=TOKEN --network=none \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /out/app ./cmd/app

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="app" \
      org.opencontainers.image.vendor='us'
RUN apk add --no-cache ca-certificates
COPY --from=build --chown=10:10 --chmod=0755 /out/app /usr/local/bin/
USER 10:10
EXPOSE 8080 8443/tcp
VOLUME ["/data"]
HEALTHCHECK --interval=30s --timeout=3s --retries=2 CMD ["app", "health"]
STOPSIGNAL SIGINT
ENTRYPOINT ["app"]
CMD ["--listen", ":8080"]
