#!/bin/sh
# Vendors what the book's pages need from npm, so that no page asks the network for anything: a font with mathematical
# layout. The result is kept in git; only a change of version needs this. Run in the root of the repository:
# sh scripts/vendor.sh
set -eu

static=$(pwd)/book/_static
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fetch() { # name version sha256
    npm pack --silent "$1@$2" >archive
    echo "$3  $(cat archive)" | sha256sum -c --quiet
    rm -rf package
    tar xzf "$(cat archive)"
}

fetch @fontsource/stix-two-math 5.3.0 948de1b5470fbbd745fedbe6135797454fe833d94feecc6f2073cd771fe2f5fd
rm -rf "$static/fonts"
mkdir -p "$static/fonts"
cp package/files/stix-two-math-latin-400-normal.woff2 "$static/fonts/stix-two-math.woff2"
cp package/LICENSE "$static/fonts/LICENSE.txt"
echo "@fontsource/stix-two-math 5.3.0, OFL-1.1" >"$static/fonts/VERSION.txt"
