#!/bin/sh
# Builds the images of Berth, none of which needs a registry: images.sh KIND...
#
# job    berth-job:local     what examples and tests run: busybox and our static helper
# berth  BERTH_IMAGE         berth:local by default: the program, linked statically;
#                            BERTH_IMAGE_PROFILE (release, or dev for tests) says how it is compiled,
#                            BERTH_CA_BUNDLE names certificates other than the machine's own
# redis  BERTH_REDIS_IMAGE   berth-redis:local by default: redis-server, redis-cli, their libraries
#
# An image is labelled with a hash of all that goes into it and is left alone while that holds.
# `./run` calls this under a lock, with TOOLS and CARGO_OUT set and busybox or redis fetched.
set -eu

cd "$(dirname -- "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

LABEL=berth.image-inputs
NOBODY=65534
REDIS_BASE_IMAGE=redis:7.4-alpine

# --- what an interrupt would leave behind ---

kept_product=
source_container=

# Gives the name back to the ordinary program, where there is one.
restore_product() {
    [ -n "$kept_product" ] || return 0
    rm -f "$kept_product"
    [ ! -e "$kept_product.kept" ] || mv "$kept_product.kept" "$kept_product"
    kept_product=
}

remove_source_container() {
    [ -z "$source_container" ] || docker rm --force "$source_container" >/dev/null 2>&1 || :
    source_container=
}

clean_up() {
    trap '' INT TERM HUP
    restore_product
    remove_source_container
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# --- what the three have in common ---

# Begins an empty tree; what is in it belongs to root, but for /data.
begin_rootfs() { # KIND
    STAGE=$TOOLS/$1-image
    ROOTFS=$STAGE/rootfs
    rm -rf "$STAGE"
    mkdir -p "$ROOTFS/etc" "$ROOTFS/tmp"
    chmod 755 "$ROOTFS" "$ROOTFS/etc"
    chmod 1777 "$ROOTFS/tmp"
    printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:%s:%s:nobody:/:/bin/sh\n' $NOBODY $NOBODY >"$ROOTFS/etc/passwd"
    printf 'root:x:0:\nnogroup:x:%s:\n' $NOBODY >"$ROOTFS/etc/group"
    chmod 644 "$ROOTFS/etc/passwd" "$ROOTFS/etc/group"
}

# Packs a tree so that equal inputs give an equal layer.
pack() { # OWNER TAR_OPTION...
    owner=$1
    shift
    tar --file "$STAGE/context/rootfs.tar" --directory "$ROOTFS" --format gnu --sort name \
        --mtime @0 --owner "$owner" --group "$owner" --numeric-owner "$@"
}

# The classic builder needs no plugin; what it prints, its deprecation notice included, matters only on failure.
build_image() { # IMAGE DOCKERFILE HASH
    before=$(image_field "$1" '{{.Id}}')
    mkdir -p "$STAGE/context"
    cp "$2" "$STAGE/context/Dockerfile"
    pack 0 --create --exclude ./data .
    [ ! -d "$ROOTFS/data" ] || pack $NOBODY --append ./data
    say "images: building $1"
    DOCKER_BUILDKIT=0 docker build --force-rm --label "$LABEL=$3" --tag "$1" "$STAGE/context" \
        >"$STAGE/build.log" 2>&1 || {
        cat "$STAGE/build.log" >&2
        fail "The image $1 could not be built."
    }
    # The image that lost its name goes, unless a container still uses it.
    [ -z "$before" ] || docker image rm "$before" >/dev/null 2>&1 || :
}

image_field() { # IMAGE FORMAT
    docker image inspect --format "$2" "$1" 2>/dev/null || :
}

is_built() { # IMAGE HASH
    [ "$(image_field "$1" "{{index .Config.Labels \"$LABEL\"}}")" = "$2" ]
}

# Hashes files by content, and what is on stdin: the same file elsewhere is the same input.
hash_of() { # FILE...
    {
        cat
        for file in "$@"; do
            sha256sum <"$file"
        done
    } | sha256sum | cut -c 1-16
}

# --- job ---

# Compiles the helper into a directory of its own: the same program built for the workspace is not static.
build_helper() {
    say "images: compiling the static helper"
    cargo rustc --quiet -p berth-job --bin berth-job --release --target-dir "$CARGO_OUT/job-image" \
        -- -C target-feature=+crt-static -C strip=symbols || fail "The helper berth-job does not compile."
}

fill_job() {
    mkdir -p "$ROOTFS/bin"
    cp -L "$TOOLS/bin/busybox" "$ROOTFS/bin/busybox"
    cp "$CARGO_OUT/job-image/release/berth-job" "$ROOTFS/bin/berth-job"
    chmod 755 "$ROOTFS/bin" "$ROOTFS/bin/busybox" "$ROOTFS/bin/berth-job"
    for applet in $("$ROOTFS/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$ROOTFS/bin/$applet"
    done
    # The helper answers to these names too, so that `exit 3` is a command in this image.
    for name in alloc connect echo-err exit hog limits lines listen write-witness; do
        ln -sf berth-job "$ROOTFS/bin/$name"
    done
}

image_job() {
    hash=$(rustc --version | hash_of scripts/images.sh deploy/job/Dockerfile deploy/job/Cargo.toml \
        deploy/job/src/*.rs "$TOOLS/bin/busybox")
    ! is_built berth-job:local "$hash" || return 0
    build_helper
    begin_rootfs job
    fill_job
    build_image berth-job:local deploy/job/Dockerfile "$hash"
}

# --- berth ---

# Compiles the static program beside the ordinary one: cargo keeps both in deps/ and shares all they
# are linked from, but gives them one name above it, which is handed back to the ordinary one.
build_program() { # PROFILE: sets PROGRAM
    case $1 in
        dev) folder=debug ;;
        *) folder=$1 ;;
    esac
    product=$CARGO_OUT/$folder/berth
    PROGRAM=$CARGO_OUT/$folder/berth-static
    # One that was left by a kill is of an older build.
    rm -f "$product.kept"
    [ ! -e "$product" ] || ln "$product" "$product.kept"
    kept_product=$product
    built=yes
    cargo rustc --quiet -p berth --bin berth --profile "$1" \
        -- -C target-feature=+crt-static -C strip=symbols || built=no
    [ "$built" = no ] || ln -f "$product" "$PROGRAM"
    restore_product
    [ "$built" = yes ] || fail "berth does not compile."
}

find_certificates() {
    for bundle in "${BERTH_CA_BUNDLE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
        /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
        [ ! -r "$bundle" ] || {
            printf '%s' "$bundle"
            return 0
        }
    done
}

image_berth() {
    image=${BERTH_IMAGE:-berth:local}
    say "images: compiling berth for $image (some minutes at the first time)"
    build_program "${BERTH_IMAGE_PROFILE:-release}"
    certificates=$(find_certificates)
    hash=$(hash_of scripts/images.sh deploy/berth/Dockerfile "$PROGRAM" ${certificates:+"$certificates"} </dev/null)
    ! is_built "$image" "$hash" || return 0
    begin_rootfs berth
    mkdir -p "$ROOTFS/data" "$ROOTFS/etc/ssl/certs"
    cp "$PROGRAM" "$ROOTFS/berth"
    [ -z "$certificates" ] || cp -L "$certificates" "$ROOTFS/etc/ssl/certs/ca-certificates.crt"
    chmod -R u=rwX,go=rX "$ROOTFS/etc" "$ROOTFS/data"
    chmod 755 "$ROOTFS/berth"
    build_image "$image" deploy/berth/Dockerfile "$hash"
}

# --- redis ---

# Names the program itself where target/tools/bin holds a wrapper for an unpacked one.
redis_program() { # NAME
    if [ -L "$TOOLS/bin/$1" ]; then readlink -f "$TOOLS/bin/$1"; else printf '%s' "$TOOLS/redis/usr/bin/$1"; fi
}

# Lists the files that a program is linked to, its loader included.
libraries_of() { # PROGRAM
    for directory in "$TOOLS"/redis/usr/lib/*-linux-gnu* "$TOOLS"/redis/lib/*-linux-gnu*; do
        [ ! -d "$directory" ] || unpacked=${unpacked:+$unpacked:}$directory
    done
    LD_LIBRARY_PATH=${unpacked:-} ldd "$1" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }' | sort -u
}

fill_redis() {
    mkdir -p "$ROOTFS/bin" "$ROOTFS/lib" "$ROOTFS/data"
    for name in redis-server redis-cli; do
        cp -L "$(redis_program "$name")" "$ROOTFS/bin/$name"
    done
    for file in $REDIS_LIBRARIES; do
        case $file in
            */ld-*)
                mkdir -p "$ROOTFS${file%/*}"
                cp -L "$file" "$ROOTFS$file"
                ;;
            *) cp -L "$file" "$ROOTFS/lib/" ;;
        esac
    done
    chmod -R u=rwX,go=rX "$ROOTFS/bin" "$ROOTFS/lib" "$ROOTFS/data"
}

# Where no redis can be run on this machine, the public image's files will do.
fill_redis_from_docker() {
    say "images: copying redis out of the image $REDIS_BASE_IMAGE"
    source_container=berth-redis-source-$$
    docker create --name "$source_container" "$REDIS_BASE_IMAGE" >/dev/null ||
        missing "redis-server is missing: it is neither on this machine, nor in its packages, nor can the image $REDIS_BASE_IMAGE be pulled."
    docker export "$source_container" | tar -x -C "$ROOTFS" --exclude 'dev/*' --exclude 'proc/*' --exclude 'sys/*'
    remove_source_container
    mkdir -p "$ROOTFS/data"
}

image_redis() {
    image=${BERTH_REDIS_IMAGE:-berth-redis:local}
    if [ -x "$TOOLS/bin/redis-server" ] && [ -x "$TOOLS/bin/redis-cli" ]; then
        server=$(redis_program redis-server)
        client=$(redis_program redis-cli)
        REDIS_LIBRARIES=$({ libraries_of "$server" && libraries_of "$client"; } | sort -u)
        # shellcheck disable=SC2086 # One file a word.
        hash=$(hash_of scripts/images.sh deploy/redis/Dockerfile "$server" "$client" $REDIS_LIBRARIES </dev/null)
        fill=fill_redis
    else
        hash=$(printf '%s' "$REDIS_BASE_IMAGE" | hash_of scripts/images.sh deploy/redis/Dockerfile)
        fill=fill_redis_from_docker
    fi
    ! is_built "$image" "$hash" || return 0
    begin_rootfs redis
    $fill
    build_image "$image" deploy/redis/Dockerfile "$hash"
}

for kind in "$@"; do
    case $kind in
        job | berth | redis) "image_$kind" ;;
        *) usage_error "There is no image \"$kind\": use job, berth or redis." ;;
    esac
done
