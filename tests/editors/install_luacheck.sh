#!/usr/bin/env bash
# install_luacheck.sh: installs luacheck, which checks the Neovim plugin, and prints its path: the system's if there is
# one, else Debian's package, unpacked without root below .cache/luacheck/ of this repository.
set -euo pipefail

if command -v luacheck; then exit 0; fi

place=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cache/luacheck
mkdir -p "$place"
exec 9>"$place/lock"
flock 9
if [ ! -x "$place/luacheck" ]; then
  for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "there is no luacheck, and no $tool to unpack Debian's." >&2; exit 3; }
  done
  cd "$place"
  apt-get --quiet --quiet download lua-check lua-argparse lua-filesystem lua5.1 liblua5.1-0 >&2 \
    || { echo "apt-get could not download lua-check (\`apt-get update\` may help)." >&2; exit 3; }
  rm -rf unpacked
  for package in *.deb; do dpkg-deb --extract "$package" unpacked; done
  rm -f -- *.deb
fi
# Written at each call, with paths relative to the script: a checkout, or its .cache, may be moved or copied.
cd "$place"
library=$(dirname "$(find unpacked -name 'liblua5.1.so.0' | head -n 1)")
modules=$(dirname "$(find unpacked -path '*/lua/5.1/lfs.so' | head -n 1)")
cat > luacheck.new <<END
#!/bin/sh
place=\$(dirname "\$0")
share=\$place/unpacked/usr/share/lua/5.1
export LD_LIBRARY_PATH="\$place/$library" LUA_PATH="\$share/?.lua;\$share/?/init.lua" LUA_CPATH="\$place/$modules/?.so"
exec "\$place/unpacked/usr/bin/lua5.1" "\$place/unpacked/usr/bin/luacheck" "\$@"
END
chmod +x luacheck.new
mv luacheck.new luacheck
echo "$place/luacheck"
