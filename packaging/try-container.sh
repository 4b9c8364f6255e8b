#!/usr/bin/env bash
# The Containerfile built and run where no registry of images can be reached: a base of Debian's own
# packages stands at the name of the Python image, with Debian's Python 3.11 in /usr/local.
# Usage, as root on Debian: packaging/try-container.sh FOLDER [buildah bud's arguments, such as -v or --env]
# Needs buildah and debootstrap of Debian, and a mirror of it; leaves everything under FOLDER.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
base=$(sed -n 's/^FROM \(\S*\) AS build$/\1/p' Containerfile)
mirror=${MIRROR:-http://deb.debian.org/debian}
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot # neither needs anything of the kernel

in_folder() { buildah --root "$folder/store" --runroot "$folder/run" "$@"; }

make_base() {
  [ -e "$folder/rootfs/usr/bin/python3" ] ||
    debootstrap --variant=minbase --include=python3,python3-venv,python3-dev,ca-certificates \
      bookworm "$folder/rootfs" "$mirror"
  [ -e "$folder/rootfs/usr/local/bin/pip" ] || chroot "$folder/rootfs" python3 -m venv --copies /usr/local
  local made
  made=$(in_folder from scratch)
  in_folder add --quiet "$made" "$folder/rootfs" /
  in_folder config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin "$made"
  in_folder commit --quiet "$made" "$base"
  in_folder rm "$made" >/dev/null
}

in_folder inspect --type image "$base" >/dev/null 2>&1 || make_base
in_folder bud --pull-never --network host "$@" -f Containerfile -t detach-edge .
made=$(in_folder from --pull-never detach-edge)
trap 'in_folder rm "$made" >/dev/null' EXIT
in_folder run "$made" -- du -sm /usr/local/lib/python3.11/site-packages
in_folder run --user detach -v "$PWD/models:/data:ro" "$made" -- \
  detach run home.detach sample/run10 --video | tail -n 1
