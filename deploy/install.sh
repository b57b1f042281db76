# What `deploy/demo` and `tests/run` need on a machine; sourced by both.

# Debian puts servers where only root looks.
export PATH="$PATH:/usr/sbin"

need_rust() {
  command -v cargo >/dev/null && return
  echo "cargo is missing: install Rust with rustup (rust-toolchain.toml names the version)" >&2
  exit 1
}

need_node() {
  local major
  major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
  [[ $major -ge 20 ]] && command -v npm >/dev/null && return
  echo "Node 20 or newer with npm is missing" >&2
  exit 1
}

# need_debian PACKAGE…: each package is named like the program it brings.
need_debian() {
  local missing=() package
  for package in "$@"; do
    command -v "$package" >/dev/null || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] && return

  echo "installing ${missing[*]} with apt-get"
  local sudo=()
  [[ $EUID -eq 0 ]] || sudo=(sudo)
  "${sudo[@]}" apt-get update -qq
  # RUNLEVEL=1: the packages' own services are not started, everything here runs on ports of its own.
  "${sudo[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# The official Socket.IO client, unless what is installed is newer than the lock file.
need_client() {
  local js=tests/js
  [[ $js/node_modules/.package-lock.json -nt $js/package-lock.json ]] || (cd $js && npm ci --no-fund --no-audit)
}
