#!/usr/bin/env bash
# install_code_server.sh: installs code-server (VS Code as a server) from npm, without a compiler, below
# .cache/code-server/ of this repository, unless it is there already. Prints the path of its entry script. Needs `node`
# and `npm` on PATH.
set -euo pipefail

version=4.100.3    # VS Code 1.100
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cache/code-server
mkdir -p "$home"
exec 9>"$home/lock"
flock 9
place=$home/$version
entry=node_modules/code-server/out/node/entry.js
if [ ! -f "$place/$entry" ]; then
  rm -rf "$place" "$place.new"
  mkdir "$place.new"
  cd "$place.new"
  echo '{ "private": true }' > package.json
  flags=(--no-audit --no-fund --ignore-scripts --loglevel=error)
  npm install "${flags[@]}" "code-server@$version" >&2
  (cd node_modules/code-server/lib/vscode && npm install "${flags[@]}" --omit=dev >&2)
  # The module that hashes passwords needs a compiler. It is loaded, but not used without a password.
  echo 'module.exports = {};' > node_modules/argon2/argon2.js
  mv "$place.new" "$place"
fi
echo "$place/$entry"
