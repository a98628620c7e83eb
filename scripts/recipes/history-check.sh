#!/bin/sh
# history-check FILE.jsonl...          judge histories that stand in files, as docs/history.md describes them

need_compiler
run_program release history-check "$@"
