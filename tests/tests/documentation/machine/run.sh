#!/bin/bash
# Runs a script as root of a separate Debian: run.sh DIRECTORY < SCRIPT. Its changes are in memory and end with the script,
# and its network is empty. The directory has the clone of the repository and, in bin/, the programs that this machine lacks.
set -eu
directory=$1
here=$(dirname "$(realpath "$0")")
if [ "${2:-}" != inside ]; then
    exec unshare --mount --net --pid --fork --kill-child --mount-proc "$here/run.sh" "$directory" inside
fi

over="$directory/over"
mkdir "$over"
mount -t tmpfs machine "$over"
for place in etc usr var; do
    mkdir -p "$over/$place/upper" "$over/$place/work"
    mount -t overlay machine -o "lowerdir=/$place,upperdir=$over/$place/upper,workdir=$over/$place/work" "/$place"
done
mount -t tmpfs machine /run
ip link set lo up

export PATH="$directory/bin:$here/bin:/usr/sbin:/usr/bin:/sbin:/bin"
cd "$directory/clone"
exec bash -eu
