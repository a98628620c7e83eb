#!/bin/sh
# model [--case NAME]                  look at every order of events of the protocol, at a small size

need_compiler
run_program release model "$@"
