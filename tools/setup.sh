#!/usr/bin/env bash
# Sets up .venv from requirements.lock, every package checked by its hash, and the native libraries WeasyPrint needs.
#   tools/setup.sh         everything a run needs
#   tools/setup.sh tests   the extra programs that some tests look at PDFs with (optional elsewhere)
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
venv=.venv
native=(libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0)

say() { printf '%s\n' "$*" >&2; }

stop() {
  say "make: $1"
  exit 2
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt_or_say <what is missing> <package>...: installs as root on Debian or Ubuntu, else says the one line to run.
apt_or_say() {
  local missing=$1
  shift
  if can_apt; then
    say "Installing $* ($missing)"
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
  else
    say "Missing: $missing. On Debian or Ubuntu run:"
    say "  sudo apt-get update && sudo apt-get install -y $*"
    say "On macOS: brew install pango (libraries) or poppler (PDF tools)."
    return 1
  fi
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, '"$2"'))' >/dev/null 2>&1; }

# A Python known to have a wheel for every package is preferred over a later one.
find_python() {
  local name
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if fits "$name" 14; then echo "$name"; return; fi
  done
  for name in ${PYTHON:-python3}; do
    if fits "$name" 99; then echo "$name"; return; fi
  done
  stop "no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3 install"
}

make_venv() {
  if fits "$venv/bin/python" 99 && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
  local python
  python=$(find_python)
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    apt_or_say "the venv module of $python" python3-venv || exit 2
  fi
  say "Creating $venv with $("$python" --version)"
  rm -rf "$venv"
  "$python" -m venv "$venv"
}

# uv itself comes from the lock, so that nothing is installed unchecked.
install_uv() {
  awk '/^uv==/ { on = 1 } on { print } on && !/\\$/ { exit }' requirements.lock >"$venv/uv.lock"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$venv/uv.lock"
}

# Wheels only, so no compiler is needed; the two pure-Python exceptions are built with tools from the same lock. Compiled
# now, once: a command, the layout engine and a Prefect server each start a process, which else compiles anew what it reads.
install_packages() {
  local uv=(env VIRTUAL_ENV="$PWD/$venv" "$venv/bin/uv" --quiet pip)
  "${uv[@]}" sync --compile-bytecode --require-hashes --require-build-hashes --build-constraints requirements.lock \
    --only-binary :all: --no-binary autograd-gamma --no-binary readability requirements.lock
  "${uv[@]}" install --no-deps --require-build-hashes --build-constraints requirements.lock --editable .
  "$venv/bin/python" -m compileall -q src
}

has_native() {
  "$venv/bin/python" -W ignore - >/dev/null 2>&1 <<'PY'
import sys
from weasyprint.text import ffi  # raises OSError when Pango, HarfBuzz or Fontconfig is missing
sys.exit(ffi.harfbuzz_subset is None)
PY
}

check_native() {
  if has_native; then return; fi
  apt_or_say "native libraries of WeasyPrint (Pango, HarfBuzz)" "${native[@]}" || exit 2
  has_native || stop "WeasyPrint still does not load; see: $venv/bin/python -c 'import weasyprint'"
}

setup() {
  make_venv
  install_uv
  install_packages
  check_native
  say "Ready: $venv/bin/crps-outcomes --help"
}

test_tools() {
  if ! { command -v pdftoppm && command -v pdffonts; } >/dev/null; then
    apt_or_say "pdftoppm and pdffonts" poppler-utils || say "Tests that look at PDF pages will be skipped and say so."
  fi
  if ! { command -v chromium && command -v chromedriver; } >/dev/null; then
    apt_or_say "chromium and chromedriver" chromium chromium-driver || say "Tests in a browser will be skipped and say so."
  fi
}

case "${1:-}" in
  "") setup ;;
  tests) test_tools ;;
  *) stop "tools/setup.sh knows no \"$1\"; use it alone or with: tests" ;;
esac
