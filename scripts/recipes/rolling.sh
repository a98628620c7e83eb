#!/bin/sh
# rolling                              restart every replica and executor in turn while clients work

measure rolling "$@"
