#!/bin/sh
# An engine of files in the place of deploy/instances/compose, for tests without containers. FAKE is its directory:
# SLUG.web is a container, SLUG.network and SLUG.volume are what they say, and SLUG.log is the log of all of them.
# While there is a file `gate`, `up` does not end.
set -eu
verb=$1
slug=$2
text=$4
at=$FAKE/$slug
echo "$verb" >>"$FAKE/ran"

left() {
    [ ! -e "$at.web" ] || echo "container $slug-web"
    [ ! -e "$at.network" ] || echo "network $slug"
    [ ! -e "$at.volume" ] || echo "volume $slug"
}

case $verb in
up)
    echo "Creating $slug" >&2
    touch "$at.network" "$at.volume" "$at.web" "$at.log"
    while [ -e "$FAKE/gate" ]; do sleep 0.05; done
    ;;
down) rm -f "$at.web" "$at.network" ;;
remove) rm -f "$at.web" "$at.network" "$at.volume" ;;
left) left ;;
ps) [ ! -e "$at.web" ] || echo "web running Up 1 second (healthy)" ;;
logs) exec tail -n "$text" -f "$at.log" ;;
tail) tail -n "$text" "$at.log" ;;
exec) exec sh -c "$text" ;;
build | pull) ;;
*) exit 2 ;;
esac
