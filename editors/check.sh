#!/usr/bin/env bash
# check.sh: the editors' own code: TypeScript by tsc (strict) and eslint, Lua by luacheck. What can't be had here is
# said and left out.
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
