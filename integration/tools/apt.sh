# Sourced by the other scripts here: packages of Debian suites, downloaded and unpacked without installing them.
# Nothing is installed on the machine, no service is started, no root is needed.
#
# Sets $root and $tools. `apt_open SUITE…` once, then `unpack DIRECTORY PACKAGE[/SUITE]…` for each tool. After `pip_open`,
# `python3 -m pip` works.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
tools="$root/.tools"

apt() {
  apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
}

apt_open() { # suites
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "no apt-get here: put the programs into $tools as $0 would" >&2
    exit 1
  fi
  # The machine's own mirror serves every suite; only the suites asked for differ from its configuration.
  uri=$(apt-get indextargets --format '$(SITE) $(REPO_URI) $(CODENAME) $(COMPONENT)' 2>/dev/null |
    awk '$4 == "main" && $3 !~ /-/ && $1 ~ /debian/ { print $2; exit }')
  [ -n "$uri" ] || uri=$(sed -n 's/^URIs: *//p; s/^deb  *\(\[[^]]*\] *\)\{0,1\}\(http[^ ]*debian\/*\) .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v security | head -n 1)
  [ -n "$uri" ] || { echo "no Debian mirror in this machine's apt configuration" >&2; exit 1; }
  [ -z "${work:-}" ] || rm -rf "$work"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb"
  for suite in "$@"; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
  done >"$work/sources.list"
  apt update
}

codename() {
  (. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
}

unpack() { # directory, packages
  into="$tools/$1"
  shift
  rm -rf "$into" "$work/deb"
  mkdir -p "$into" "$work/deb"
  (cd "$work/deb" && apt download "$@")
  for deb in "$work/deb"/*.deb; do dpkg-deb -x "$deb" "$into"; done
}

pip_open() {
  command -v python3 >/dev/null 2>&1 || { echo "needs python3 (Debian: python3)" >&2; exit 1; }
  export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
  python3 -m pip --version >/dev/null 2>&1 && return
  if [ ! -d "$tools/pip" ]; then
    release=$(codename)
    apt_open "$release"
    unpack pip "python3-pip/$release"
  fi
  PYTHONPATH="$tools/pip/usr/lib/python3/dist-packages"
  export PYTHONPATH
}
