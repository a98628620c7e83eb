#!/bin/sh
# losses [--only NAME,..]              break processes, Redis, Docker and the network, and show what becomes of jobs

measure losses "$@"
