#!/bin/sh
# mutants [--seeds N] [--dir PATCHES]  put bugs into a copy of the sources: does the simulation, or --chaos, find each?

need_compiler
have git || missing "git is missing: bugs that come as patches are applied by it."
case " $* " in
    *" --chaos "*)
        need_docker
        setup_tools redis busybox
        setup_images
        export_tools
        ;;
esac
run_program release mutants "$@"
