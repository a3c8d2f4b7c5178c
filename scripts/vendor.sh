#!/bin/sh
# Vendors what the book's pages need from npm, so that no page asks the network for anything: ipywidgets' front end
# for pages without a kernel, and a font with mathematical layout. The results are kept in git; only a change of
# version needs this. Run in the root of the repository: sh scripts/vendor.sh
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

# The basic embedder (no require.js) and its icon fonts, of which every current browser reads woff2.
fetch @jupyter-widgets/html-manager 1.0.15 2b9d65cb7913e1c7d671757a10008b32c9c2448d4429513371e55c07d6107638
rm -rf "$static/widgets"
mkdir -p "$static/widgets"
cp package/dist/embed.js package/dist/embed.js.LICENSE.txt package/dist/*.woff2 "$static/widgets"
echo "@jupyter-widgets/html-manager 1.0.15, BSD-3-Clause" >"$static/widgets/VERSION.txt"

fetch @fontsource/stix-two-math 5.3.0 948de1b5470fbbd745fedbe6135797454fe833d94feecc6f2073cd771fe2f5fd
rm -rf "$static/fonts"
mkdir -p "$static/fonts"
cp package/files/stix-two-math-latin-400-normal.woff2 "$static/fonts/stix-two-math.woff2"
cp package/LICENSE "$static/fonts/LICENSE.txt"
echo "@fontsource/stix-two-math 5.3.0, OFL-1.1" >"$static/fonts/VERSION.txt"
