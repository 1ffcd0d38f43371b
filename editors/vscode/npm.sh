#!/usr/bin/env bash
# npm.sh ARGUMENTS: runs npm in this folder, after installing the packages of package-lock.json if needed. Uses the
# system's Node or, without one, Node from PyPI in the repository's .cache/. Exits with 3 when it can get neither.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
node=$(bash "$here/../../tests/editors/install_node.sh") || {
  echo "There is no Node.js 20 or later, and it could not be installed from PyPI." >&2
  exit 3
}
export PATH="$node:$PATH"
cd "$here"
if [ ! -e node_modules/.done ] || [ package-lock.json -nt node_modules/.done ]; then
  npm ci --ignore-scripts --loglevel=error || { echo "The packages of npm could not be installed." >&2; exit 3; }
  touch node_modules/.done
fi
exec npm --loglevel=error "$@"
