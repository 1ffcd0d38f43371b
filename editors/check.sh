#!/usr/bin/env bash
# check.sh: checks the editors' code: TypeScript with tsc (strict) and eslint, Lua with luacheck. A tool that can't be
# installed is reported and skipped.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
failed=0

bash "$here/vscode/npm.sh" run check
status=$?
if [ $status = 3 ]; then echo "TypeScript is not checked: see the line above."; elif [ $status != 0 ]; then failed=1; fi

if luacheck=$(bash "$here/../tests/editors/install_luacheck.sh"); then
  (cd "$here/neovim" && "$luacheck" --quiet --no-cache .) || failed=1
else
  echo "Lua is not checked: see the line above."
fi
exit $failed
