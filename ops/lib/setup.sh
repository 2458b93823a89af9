# shellcheck shell=bash
# Sourced by ops/demo, ops/test and .ci/run: leaves the shell in the root of the project, with
# everything there that a build needs. Quick when nothing is missing.

# What the build and the tests need of Debian and its like:
# - libclang-dev: RocksDB's bindings are made from its headers with libclang.
# - ccache: RocksDB is 342 C++ files, half an hour on two cores; with the cache, two minutes.
# - ca-certificates: to fetch crates, and to trust the certificates of collectors.
forebay_packages=(libclang-dev ccache ca-certificates)
# In CI also:
# - prometheus: its promtool runs the tests of the alert rules (ops/check).
# - valgrind: counts instructions (benches/instructions.rs).
# - chromium, chromium-driver: the tests of the status page look at it; with a font to read.
[[ ${FOREBAY_CI:-} != 1 ]] ||
  forebay_packages+=(prometheus valgrind chromium chromium-driver fonts-dejavu-core)
forebay_root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '==> %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# The toolchain that rust-toolchain.toml names, such as 1.95.0.
forebay_toolchain() { sed -n 's/^channel *= *"\(.*\)"$/\1/p' rust-toolchain.toml; }

forebay_rust() {
  # A shell that was open when rustup was installed does not have it in its PATH yet.
  local cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin toolchain
  command -v cargo >/dev/null || export PATH="$cargo_bin:$PATH"
  command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
  toolchain=$(forebay_toolchain)
  # With rustup, the first cargo command in here fetches the toolchain.
  cargo --version >/dev/null || die "Rust $toolchain is missing:" \
    "rustup toolchain install $toolchain --profile minimal --component clippy --component rustfmt"
}

# Prints the Debian packages that are not installed, one a line.
forebay_missing() {
  local package status
  for package in "${forebay_packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || true
    [[ $status == installed ]] || echo "$package"
  done
  for package in gcc g++; do
    command -v "$package" >/dev/null || echo "$package"
  done
}

forebay_apt() {
  local missing=() sudo=()
  mapfile -t missing < <(forebay_missing)
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "these packages are missing, and there is neither root" \
      "nor sudo to install them; as root: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  say "installing ${missing[*]}"
  # Somebody else's broken package source is no reason to stop: what matters is the next step.
  "${sudo[@]}" apt-get update -q >&2 || say "apt-get update failed, going on with what it had"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get could not install ${missing[*]}"
}

# On systems without apt: nothing is installed, but what is missing is named.
forebay_no_apt() {
  local compiler
  for compiler in gcc g++; do
    command -v "$compiler" >/dev/null || die "$compiler is missing: install it"
  done
  [[ -n ${LIBCLANG_PATH:-} ]] ||
    compgen -G '/usr/lib*/libclang*.so*' >/dev/null ||
    compgen -G '/usr/lib*/llvm*/lib*/libclang*.so*' >/dev/null ||
    compgen -G '/usr/lib/*/libclang*.so*' >/dev/null ||
    die "libclang is missing: install clang's development package (clang-devel, clang), or say" \
      "in LIBCLANG_PATH in which directory libclang.so is"
  command -v ccache >/dev/null ||
    say "without ccache every clean build compiles RocksDB anew: half an hour on two cores"
}

forebay_setup() {
  cd "$forebay_root"
  if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    forebay_apt
  else
    forebay_no_apt
  fi
  forebay_rust

  # It would override .cargo/config.toml, and change every object in the cache.
  if [[ -n ${RUSTFLAGS:-}${CARGO_ENCODED_RUSTFLAGS:-} ]]; then
    say "ignoring RUSTFLAGS: the flags are in .cargo/config.toml"
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
  fi
  # Outside of the clone, so that all clones share what they have built.
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/forebay/target}
  # A compiler that was chosen on purpose stays.
  if command -v ccache >/dev/null; then
    export CC=${CC:-ccache gcc} CXX=${CXX:-ccache g++}
  fi
  if ! compgen -G "$CARGO_TARGET_DIR/*/build/librocksdb-sys-*" >/dev/null; then
    say "the first build compiles RocksDB: half an hour on two cores, or two minutes from ccache"
  fi
}
