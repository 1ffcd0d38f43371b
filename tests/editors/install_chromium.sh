#!/usr/bin/env bash
# install_chromium.sh: installs a headless Chromium for the tests and prints its path: the system's if there is one, else
# one from npm (Linux on x86-64) below .cache/chromium/ of this repository, unless it is there already. npm needs `node`
# and `npm` on PATH.
set -euo pipefail

version=153.0.0
if [ -z "${CHROMIUM_FROM_NPM:-}" ]; then
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name"; then exit 0; fi
  done
fi

[ "$(uname -sm)" = "Linux x86_64" ] || { echo "There is no Chromium; install one." >&2; exit 3; }
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cache/chromium
mkdir -p "$home"
exec 9>"$home/lock"
flock 9
place=$home/$version
if [ ! -x "$place/run" ]; then
  rm -rf "$place"
  mkdir -p "$place/unpacked"
  cd "$place"
  echo '{ "private": true }' > package.json
  npm install --no-audit --no-fund --ignore-scripts --loglevel=error "@sparticuz/chromium@$version" >&2
  # The package contains Chromium's libraries and unpacks them only on AWS Lambda, hence the variable.
  AWS_LAMBDA_JS_RUNTIME=nodejs22.x TMPDIR="$place/unpacked" node --input-type=module -e \
    'import chromium from "@sparticuz/chromium"; await chromium.executablePath();' >&2
  program=$(find "$place/unpacked" -type f -name chromium | head -n 1)
  [ -n "$program" ] || { echo "The Chromium of npm could not be unpacked." >&2; exit 3; }
  chmod +x "$program"
fi
# Written at each call, with paths relative to the script: a checkout, or its .cache, may be moved or copied.
program=$(cd "$place" && find unpacked -type f -name chromium | head -n 1)
libraries=$(cd "$place" && find unpacked -type d -name lib | head -n 1)
cat > "$place/run.new" <<END
#!/bin/sh
place=\$(dirname "\$0")
[ -d /etc/fonts ] || export FONTCONFIG_PATH="\$place/unpacked/fonts"
LD_LIBRARY_PATH="\$place/$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" exec "\$place/$program" "\$@"
END
chmod +x "$place/run.new"
mv "$place/run.new" "$place/run"
echo "$place/run"
