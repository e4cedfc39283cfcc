# syntax=docker/dockerfile:1
#
# Two images from the same build:
#   docker build --target hub   -t fairlead-hub .     the hub, no QEMU in it
#   docker build --target agent -t fairlead-agent .   the agent with QEMU (the default)
#
# The hub needs an address that others reach, and then a certificate or a proxy that has one:
#   docker run -p 7080:7080 -v fairlead-hub:/var/lib/fairlead-hub -v /etc/fairlead:/etc/fairlead:ro fairlead-hub \
#     --listen 0.0.0.0:7080 --tls-cert /etc/fairlead/tls.crt --tls-key /etc/fairlead/tls.key
# It runs as user node (1000), who must be able to read the key.
#
# The agent needs the host's devices and its state:
#   docker run --init --device /dev/kvm --device /dev/vhost-vsock -v /var/lib/fairlead:/var/lib/fairlead fairlead-agent --hub wss://…
# VMs are processes in the agent's container: they end when the container does.

ARG NODE_IMAGE=node:24-trixie
ARG NODE_SLIM_IMAGE=node:24-trixie-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /opt/fairlead
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/var/cache/npm npm install --cache /var/cache/npm --no-save --no-audit --no-fund
COPY . .
RUN npm run build && npm run build:native && npm prune --omit=dev

FROM ${NODE_SLIM_IMAGE} AS base
LABEL org.opencontainers.image.title="Fairlead" \
      org.opencontainers.image.licenses="MIT"
WORKDIR /opt/fairlead
COPY --from=build /opt/fairlead/package.json ./
COPY --from=build /opt/fairlead/bin/fairlead.js ./bin/fairlead.js
COPY --from=build /opt/fairlead/dist ./dist
COPY --from=build /opt/fairlead/native/build/Release/fairlead_native.node ./native/build/Release/fairlead_native.node
COPY --from=build /opt/fairlead/node_modules ./node_modules
RUN ln -s /opt/fairlead/bin/fairlead.js /usr/local/bin/fairlead
STOPSIGNAL SIGTERM

FROM base AS hub
RUN install -d -o node -g node -m 0700 /var/lib/fairlead-hub
USER node
VOLUME /var/lib/fairlead-hub
EXPOSE 7080
# For probes and scrapers; 0.0.0.0:7082 lets those in that come from outside the container.
ENV FAIRLEAD_HUB_HEALTH_LISTEN=127.0.0.1:7082
HEALTHCHECK CMD ["node", "-e", "fetch('http://127.0.0.1:7082/livez').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["fairlead", "hub", "--data-dir", "/var/lib/fairlead-hub"]

FROM base AS agent
RUN apt-get update \
 && apt-get install -y --no-install-recommends qemu-system-x86 qemu-utils seabios iproute2 \
 && rm -rf /var/lib/apt/lists/*
VOLUME /var/lib/fairlead
HEALTHCHECK CMD ["node", "-e", "fetch('http://127.0.0.1:7081/livez').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["fairlead", "agent", "--state-dir", "/var/lib/fairlead", "--run-dir", "/run/fairlead"]
