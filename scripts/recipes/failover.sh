#!/bin/sh
# failover [--kills N]                 kill the leader under load, again and again, and time the next one

measure failover "$@"
