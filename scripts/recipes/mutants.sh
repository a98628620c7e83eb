#!/bin/sh
# mutants [--seeds N] [--dir PATCHES]  put bugs into a copy of the sources: does the simulation find each?

need_compiler
have git || missing "git is missing: bugs that come as patches are applied by it."
run_program release mutants "$@"
