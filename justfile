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

# Build the images berth:local, berth-redis:local and berth-job:local
images:
    @./run images

# The same as images
docker_build:
    @./run docker_build

# Start Redis, one scheduler and one executor in Docker
docker_start_single:
    @./run docker_start_single

# Start a fleet in Docker: Redis, three schedulers, three executors
docker_compose_up:
    @./run docker_compose_up

# Build the images anew after changes and recreate the fleet's containers
docker_restart_containers:
    @./run docker_restart_containers

# Remove the fleet with its jobs, network and data
docker_compose_down:
    @./run docker_compose_down

# Run the end-to-end tests, and those of fleets from the release images
test_e2e:
    @./run test_e2e

# Fetch redis, busybox, registry, compose, buf, grpcurl and Python packages into target/tools
tools *args:
    @./run tools "$@"

# Run a single-machine cluster and a mixed batch of jobs on it
demo *args:
    @./run demo "$@"

# Compare `berth run` with `docker run`
latency *args:
    @./run latency "$@"

# Break processes, Redis, Docker and the network, and show what becomes of jobs
losses *args:
    @./run losses "$@"

# Submit 500 real jobs at once, three ways, and account for each
bulk *args:
    @./run bulk "$@"

# Kill the leader under load, again and again, and time the next one
failover *args:
    @./run failover "$@"

# Play the cluster's real code under simulated faults, and judge each run
sim *args:
    @./run sim "$@"

# Look at every order of events of the protocol, at a small size
model *args:
    @./run model "$@"

# Measure, each beside its limit: just bench all, or one of placement, lives, control, scale, containers
bench *args:
    @./run bench "$@"

# Put bugs into a copy of the sources, and look whether the simulation finds each
mutants *args:
    @./run mutants "$@"

# Throw damaged messages, records, JSON and texts at whatever reads them
fuzz *args:
    @./run fuzz "$@"

# Break a running cluster of real processes for so many minutes, and judge what became of it
chaos *args:
    @./run chaos "$@"

# Judge histories that stand in files
history-check *args:
    @./run history-check "$@"

# Restart every replica and executor in turn while clients work
rolling:
    @./run rolling
