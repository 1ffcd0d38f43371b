#!/usr/bin/env bash
# install_neovim_plugins.sh: installs other authors' plugins that the tests combine with ours (blink.cmp, lazy.nvim,
# mini.pairs) below .cache/neovim/plugins/ of this repository, unless they are there already, and prints their folder.
# They come from PyPI, as part of a published configuration of Neovim. PYTHON names the Python whose pip is used.
set -euo pipefail

place=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cache/neovim/plugins
mkdir -p "$(dirname "$place")"
exec 9>"$place.lock"
flock 9
if [ ! -d "$place" ]; then
  new=$place.new
  rm -rf "$new"
  "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --target "$new/whole" --requirement /dev/stdin >&2 <<'END'
nvim-zsh-profile==0.1.0 --hash=sha256:3aca67b2f52add2d9e026b8ffb429e50fcde112f866bb05bad9cb3ea5d123b2f
END
  mkdir "$new/kept"
  for plugin in blink.cmp lazy.nvim mini.pairs; do
    mv "$new/whole/nvim_zsh_profile/assets/nvim-lazy/$plugin" "$new/kept/"
  done
  mv "$new/kept" "$place"
  rm -rf "$new"
fi
echo "$place"
