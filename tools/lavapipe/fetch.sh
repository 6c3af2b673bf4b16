#!/usr/bin/env bash
# fetch.sh DIR: put lavapipe, Mesa's Vulkan driver that computes on the processor, into DIR (made anew): lvp_icd.json for
# VK_DRIVER_FILES and lib/ for LD_LIBRARY_PATH, with Vulkan's loader and every library below the two but libc's and the compiler's.
# Debian, or what comes from it: apt fetches and verifies, from where the machine's apt is set up to, with its lists and
# packages in DIR. Nothing is installed, and root is not needed.
set -euo pipefail

version=25 # Mesa 22 of Debian 12 lacks what WebGPU needs
package=mesa-vulkan-drivers
driver=libvulkan_lvp.so

fail() {
  echo "fetch lavapipe: $*" >&2
  exit 1
}

[ $# = 1 ] || fail "usage: fetch.sh DIR"
for tool in apt-get apt-config dpkg-deb ldd; do
  command -v $tool >/dev/null || fail "there is no $tool"
done
rm -rf "$1"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
apt=$dir/apt

# prepare gives apt the machine's settings and sources, without what else is run after an update, and folders of its own.
# What is installed does not count (an empty status), so that the same is fetched everywhere. Downloads run as who calls
# this: the user that root's apt would take instead may not be able to reach DIR.
prepare() {
  mkdir -p "$apt"/state/lists/partial "$apt"/cache/archives/partial "$apt"/sources.list.d
  touch "$apt/status" "$apt/sources.list"
  eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
  if [ -f "$list" ]; then cp "$list" "$apt/sources.list"; fi
  if [ -d "$parts" ]; then find "$parts" -maxdepth 1 \( -name '*.list' -o -name '*.sources' \) -exec cp -t "$apt/sources.list.d" {} +; fi
  apt-config dump | grep -vE '^(APT::Update::P|DPkg::|Dir::Etc::(main|parts))' >"$apt/apt.conf"
  cat >>"$apt/apt.conf" <<CONF
Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "$apt/sources.list.d";
Dir::State "$apt/state"; Dir::State::status "$apt/status"; Dir::Cache "$apt/cache";
APT::Sandbox::User "root"; APT::Install-Recommends "false";
Acquire::Languages "none"; Acquire::Retries "2";
CONF
  export APT_CONFIG=$apt/apt.conf
}

# update may fail at a source that does not matter.
update() {
  apt-get -qq update >&2 || echo "fetch lavapipe: apt-get update failed" >&2
}

# new: the version that apt would take is new enough.
new() {
  local candidate
  candidate=$(apt-cache "$@" policy $package | sed -n 's/^ *Candidate: //p')
  [ -n "$candidate" ] && [ "$candidate" != '(none)' ] && dpkg --compare-versions "$candidate" ge $version
}

# backports adds the backports of the machine's Debian, from the same mirror, and prints their name.
backports() {
  local release uri
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  uri=$(index '$(REPO_URI)' "Codename: $release" 'Origin: Debian')
  [ -n "$uri" ] || return 0
  if [ -z "$(index '$(REPO_URI)' "Codename: $release-backports")" ]; then
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $release-backports main" >"$apt/sources.list.d/lavapipe.list"
    update
  fi
  echo "$release-backports"
}

# index prints a field of the first list of packages that fits.
index() {
  local format=$1
  shift
  apt-get indextargets --format "$format" 'Created-By: Packages' 'Component: main' "$@" | sed -n 1p
}

# unpack takes all packages apart but those that the machine's own programs share with the driver.
unpack() {
  local deb
  for deb in "$apt"/cache/archives/*.deb; do
    case ${deb##*/} in
    libc6_* | libgcc-s1_* | gcc-*-base_* | libstdc++6_*) ;;
    *) dpkg-deb -x "$deb" "$apt/root" ;;
    esac
  done
}

# libraries prints where the loader finds what a library needs, if libraries are looked for in a list of folders first.
libraries() {
  LD_LIBRARY_PATH=$1 ldd "$2" 2>&1 | awk '$2 == "=>" { print $1, $3 == "not" ? "missing" : $3; next } !/linux-vdso|ld-linux|statically linked/'
}

# collect copies the driver, the loader and what they need into lib/.
collect() {
  local file folders
  mkdir "$dir/lib"
  folders=$(find "$apt/root" -name 'lib*.so*' -printf '%h\n' | sort -u | paste -sd:)
  for file in $driver libvulkan.so.1; do
    file=$(find "$apt/root" -name $file | sed -n 1p)
    [ -n "$file" ] || fail "$package has no $driver, or libvulkan1 no libvulkan.so.1"
    cp -L "$file" "$dir/lib"
    libraries "$folders" "$file" | awk -v root="$apt/root" 'index($2, root) == 1 { print $2 }' | xargs -r cp -L -t "$dir/lib"
  done
}

# complete says what in lib/ is missing something, or needs the machine's for anything but libc and the compiler's libraries.
complete() {
  local file
  for file in "$dir"/lib/*; do
    libraries "$dir/lib" "$file" | awk -v lib="$dir/lib/" -v file="${file##*/}" \
      '!(index($2, lib) == 1 || $2 ~ /^\// && $1 ~ /^(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+)\.so\./) { print file ": " $0 }'
  done
}

prepare
update
release=()
if ! new; then
  name=$(backports)
  release=(${name:+-t "$name"})
  new "${release[@]}" || fail "apt knows no $package of version $version or later"
fi
apt-get -qq "${release[@]}" --yes --download-only install $package libvulkan1 >&2 || fail "cannot download $package"
unpack
collect
bad=$(complete)
[ -z "$bad" ] || fail "incomplete: $bad"
cat >"$dir/lvp_icd.json" <<JSON
{"file_format_version": "1.0.0", "ICD": {"library_path": "lib/$driver", "api_version": "1.3.0"}}
JSON
rm -rf "$apt"
