#!/bin/sh
# sim [--seeds A-B|--seed N]           play the real code under simulated faults, and judge each run

need_compiler
run_program release sim "$@"
