# Shared by the scripts beside this folder: installs what a fresh clone lacks. Sourced, not run; expects to stand in the
# top folder of the project.

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 8; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else return 1; fi
}

# need_program PROGRAM PACKAGE: installs the Debian package when the program is not there.
need_program() {
  command -v "$1" >/dev/null 2>&1 && return 0
  [ -x "/usr/sbin/$1" ] && return 0
  missing_packages="${missing_packages:-} $2"
}

# install_missing: installs the packages that need_program found missing, all at once.
install_missing() {
  [ -n "${missing_packages:-}" ] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    fail "these Debian packages are needed and there is no apt-get to install them:$missing_packages"
  say "installing:$missing_packages"
  # shellcheck disable=SC2086 # a list of words is wanted
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends $missing_packages >/dev/null 2>&1 ||
    { as_root apt-get update -qq >/dev/null 2>&1 &&
      DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends $missing_packages >/dev/null; } ||
    fail "could not install$missing_packages; install them yourself and run this again"
  missing_packages=
}

# need_node: Node 20 or later, and the packages of package-lock.json.
need_node() {
  command -v node >/dev/null 2>&1 || fail "Node.js 20 or later is needed (Debian: apt-get install nodejs npm)"
  local major
  major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$major" -ge 20 ] || fail "Node.js 20 or later is needed, this is $(node --version)"
  if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    say "installing npm packages"
    npm ci --no-audit --no-fund --loglevel=error
    touch node_modules/.package-lock.json
  fi
}

# use_node VERSION: another Node.js than the machine's, from npm, for what this script runs.
use_node() {
  local folder="${XDG_CACHE_HOME:-$HOME/.cache}/xenchannel-node/$1" architecture
  command -v npm >/dev/null 2>&1 || fail "npm is needed to fetch Node.js $1 (Debian: apt-get install nodejs npm)"
  if [ ! -x "$folder/bin/node" ]; then
    architecture=$(node -p process.arch)
    say "fetching Node.js $1"
    npm install --prefix "$folder" --no-save --no-audit --no-fund --loglevel=error "node-linux-$architecture@$1" >/dev/null ||
      fail "Node.js $1 could not be had from npm (node-linux-$architecture@$1)"
    mkdir -p "$folder/bin"
    ln -sf "../node_modules/node-linux-$architecture/bin/node" "$folder/bin/node"
  fi
  export PATH="$folder/bin:$PATH"
  say "with Node.js $(node --version)"
}

# build_product: dist/, when a source is newer than it.
build_product() {
  if [ ! -e dist/.built ] || [ -n "$(find src xenstore package.json tsconfig*.json -newer dist/.built -print -quit)" ]; then
    say "building"
    # Beside the old one and then in its place: a program that runs from dist/ never finds half of it.
    local fresh=dist.$$
    npx tsc -p tsconfig.build.json --outDir "$fresh"
    chmod +x "$fresh/src/cli/main.js"
    touch "$fresh/.built"
    rm -rf dist
    mv "$fresh" dist
  fi
}
