# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin remit && install -D target/release/remit /out/remit && install -d -o 65532 -g 65532 /out/data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/remit /usr/local/bin/remit
# An empty volume takes its owner from this folder, so that the unprivileged user can write to it.
COPY --from=build --chown=65532:65532 /out/data /var/lib/remit
VOLUME /var/lib/remit
EXPOSE 7364 7366
ENTRYPOINT ["/usr/local/bin/remit"]
CMD ["serve"]
