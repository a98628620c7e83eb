# Every recipe is `./run RECIPE`, which needs no just: this file only saves typing.
set positional-arguments

# List the recipes
default:
    @./run

# Run every test, after setting up what they need
test *args:
    @./run test "$@"

# Check formatting, clippy, docs, protocol, shell scripts and house rules
check:
    @./run check

# Build the release binary and print its path
build:
    @./run build

# Build the image that examples and tests run
images:
    @./run images

# Fetch redis, busybox, registry, buf, grpcurl and Python packages into target/tools
tools *args:
    @./run tools "$@"

# Run a single-machine cluster and a mixed batch of jobs on it
demo *args:
    @./run demo "$@"

# Compare `berth run` with `docker run`
latency *args:
    @./run latency "$@"

# Submit 500 real jobs at once, three ways, and account for each
bulk *args:
    @./run bulk "$@"
