#!/bin/sh
# Builds berth-job:local, the image that examples and tests run: busybox and our static helper.
#
# The image is labelled with a hash of all that goes into it and is left alone while that holds.
# `./run` calls this under a lock, with TOOLS and CARGO_OUT set and busybox fetched.
set -eu

cd "$(dirname -- "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

IMAGE=berth-job:local
LABEL=berth.image-inputs
STAGE=$TOOLS/job-image
ROOTFS=$STAGE/rootfs

inputs_hash() {
    {
        rustc --version
        sha256sum scripts/images.sh deploy/job/Dockerfile deploy/job/Cargo.toml deploy/job/src/*.rs
        sha256sum <"$TOOLS/bin/busybox"
    } | sha256sum | cut -c 1-16
}

# Compiles the helper into a directory of its own: the same program built for the workspace is not static.
build_helper() {
    say "images: compiling the static helper"
    cargo rustc --quiet -p berth-job --bin berth-job --release --target-dir "$CARGO_OUT/job-image" \
        -- -C target-feature=+crt-static -C strip=symbols || fail "The helper berth-job does not compile."
}

fill_rootfs() {
    rm -rf "$STAGE"
    mkdir -p "$ROOTFS/bin" "$ROOTFS/etc" "$ROOTFS/tmp"
    chmod 1777 "$ROOTFS/tmp"
    cp -L "$TOOLS/bin/busybox" "$ROOTFS/bin/busybox"
    cp "$CARGO_OUT/job-image/release/berth-job" "$ROOTFS/bin/berth-job"
    chmod 755 "$ROOTFS/bin/busybox" "$ROOTFS/bin/berth-job"
    for applet in $("$ROOTFS/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$ROOTFS/bin/$applet"
    done
    # The helper answers to these names too, so that `exit 3` is a command in this image.
    for name in alloc connect echo-err exit hog limits lines write-witness; do
        ln -sf berth-job "$ROOTFS/bin/$name"
    done
    printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$ROOTFS/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$ROOTFS/etc/group"
    chmod 644 "$ROOTFS/etc/passwd" "$ROOTFS/etc/group"
    chmod 755 "$ROOTFS" "$ROOTFS/bin" "$ROOTFS/etc"
}

# Packs the tree so that equal inputs give an equal layer.
pack_context() {
    mkdir -p "$STAGE/context"
    cp deploy/job/Dockerfile "$STAGE/context/Dockerfile"
    tar --create --file "$STAGE/context/rootfs.tar" --directory "$ROOTFS" --format gnu --sort name \
        --mtime @0 --owner 0 --group 0 --numeric-owner .
}

# The classic builder needs no plugin; what it prints, its deprecation notice included, matters only on failure.
build_image() {
    DOCKER_BUILDKIT=0 docker build --force-rm --label "$LABEL=$1" --tag "$IMAGE" "$STAGE/context" \
        >"$STAGE/build.log" 2>&1 || {
        cat "$STAGE/build.log" >&2
        fail "The image $IMAGE could not be built."
    }
}

image_field() {
    docker image inspect --format "$1" "$IMAGE" 2>/dev/null || :
}

hash=$(inputs_hash)
[ "$(image_field "{{index .Config.Labels \"$LABEL\"}}")" != "$hash" ] || exit 0
before=$(image_field '{{.Id}}')
build_helper
fill_rootfs
pack_context
say "images: building $IMAGE"
build_image "$hash"
# The image that lost its name goes, unless a container still uses it.
[ -z "$before" ] || docker image rm "$before" >/dev/null 2>&1 || :
